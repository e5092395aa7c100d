"""``signals users``, as typed."""

import pytest
import typer
from typer.testing import CliRunner

from cli.users import register
from relay.users import open_store


@pytest.fixture
def run(tmp_path):
    app = typer.Typer()
    app.command("other")(lambda: None)
    register(app)
    dsn = f"sqlite://{tmp_path}/users.db"

    def run(*words: str):
        return CliRunner().invoke(app, ["users", *words, "--store", dsn])

    run.dsn = dsn
    return run


def test_add_list_tier_token_off_on(run):
    assert run("add", "ann", "--tier", "premium", "--watchlist", "aapl,MSFT").exit_code == 0
    token = run("token", "ann").stdout.strip()
    store = open_store(run.dsn)
    assert store.by_token(token).watchlist == ["AAPL", "MSFT"]
    assert run("tier", "ann", "dynamic").exit_code == 0
    assert store.get("ann").tier == "dynamic"
    listed = run("list").stdout
    assert all(word in listed for word in ("ann", "dynamic", "AAPL"))
    assert token not in listed
    run("off", "ann")
    assert store.by_token(token) is None
    run("on", "ann")
    assert store.by_token(token) is not None
    assert "1 tokens" in run("token", "ann", "--revoke").stdout
    assert store.by_token(token) is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tier", "bob", "free"), "bob"),
        (("add", "x", "--tier", "gold"), "gold"),
        (("token", "bob"), "signals users add bob"),
        (("add", "a b"), "'a b'"),
    ],
)
def test_mistakes_end_with_words(run, words, told):
    result = run(*words)
    assert result.exit_code == 2
    assert told in result.stderr
