"""``signals bundle``: list, verify, promote, shadow and roll back model bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from models.serving.bundle import Bundle
    from models.serving.rollout import Kind, RolloutMessage, RolloutState

bundle_app = typer.Typer(help="Model bundles: list them, verify them, choose which one scores.")

Kafka = Annotated[str, typer.Option("--kafka", envvar="SIGNALS_KAFKA", help="broker, host:port")]
At = Annotated[
    str,
    typer.Option(help="end of the first bar it scores: epoch ms, a date and time (UTC), or +seconds from now"),
]
Features = Annotated[
    Path | None, typer.Option(help="the jobs' FeatureConfig as JSON, unless they compute the whole catalogue")
]
Reason = Annotated[str, typer.Option(help="reason, kept with the message")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(bundle_app, name="bundle")


@bundle_app.command("list")
def list_(
    folder: Annotated[Path | None, typer.Option(help="also list the bundles in this folder")] = None,
    kafka: Annotated[str, typer.Option("--kafka", envvar="SIGNALS_KAFKA", help="show the bundle in force there")] = "",
) -> None:
    """List bundles with their figures; with a broker, which one is in force.

    Example: signals bundle list --kafka 127.0.0.1:9092
    """
    from rich.console import Console
    from rich.table import Table

    from models.serving.bundle import MANIFEST, BundleError, bundle_names, bundle_path, load_bundle

    paths = [bundle_path(name) for name in bundle_names()]
    if folder is not None:
        paths += sorted(child.parent for child in folder.glob(f"*/{MANIFEST}"))
    table = Table("bundle", "bars", "trained on", "until", "out of sample", title="Bundles")
    broken = []
    for path in paths:
        try:
            bundle = load_bundle(path)
        except BundleError as error:
            broken.append(str(error))
            continue
        trained = bundle.manifest.training
        table.add_row(
            bundle.id,
            bundle.manifest.timeframe,
            ", ".join(trained.symbols) if trained else "",
            _day(trained.end_ms) if trained else "",
            figures(bundle),
        )
        bundle.close()
    Console().print(table)
    for line in broken:
        typer.secho(f"refused: {line}", fg="red", err=True)
    if kafka:
        _show_rollout(kafka)


@bundle_app.command()
def verify(bundle: Annotated[str, typer.Argument(help="a shipped bundle's name or a folder")]) -> None:
    """Check a bundle: hashes, library versions, feature order, classes, and that it scores.

    Example: signals bundle verify daily-swing
    """
    import numpy as np

    loaded = _load(bundle)
    scores, _ = loaded.decide(np.zeros((2, len(loaded.features))))
    for name, why in scores.skipped.items():
        _stop(f"{loaded.id}: model {name} cannot score: {why}")
    size = sum(file.stat().st_size for file in _folder(bundle).iterdir() if file.is_file())
    typer.echo(
        f"{loaded.id}: verified. {len(loaded.manifest.files)} files, {size:,} bytes, {len(loaded.features)} inputs,"
    )
    typer.echo(f"  feature set {loaded.feature_set_hash}, {figures(loaded)}")
    loaded.close()


@bundle_app.command()
def keygen(
    out: Annotated[Path, typer.Option(help="file of the private key; the public key is written next to it, with .pub")],
) -> None:
    """Make a key pair to sign bundles with. Keep the private file secret; give the public one to the jobs.

    Example: signals bundle keygen --out signing.pem
    """
    import os

    from models.serving.signing import PUBLIC_KEY_VARIABLE, new_key

    private, public = new_key()
    try:
        with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private)
        public_file = out.with_name(out.name + ".pub")
        public_file.write_bytes(public)
    except OSError as error:
        _stop(f"{error.filename or out}: {error.strerror}: choose another file")
    typer.echo(f"private key in {out}; to make jobs require it, set {PUBLIC_KEY_VARIABLE}={public_file.resolve()}")


@bundle_app.command()
def sign(
    bundle: Annotated[str, typer.Argument(help="a shipped bundle's name or a folder")],
    key: Annotated[Path, typer.Option(help="private key, as `signals bundle keygen` makes it", exists=True)],
    out: Annotated[Path | None, typer.Option(help="sign a copy here; needed for a shipped bundle")] = None,
) -> None:
    """Sign a bundle for jobs that require a signature. It is verified first.

    Example: signals bundle sign daily-swing --key signing.pem --out bundles/daily-swing
    """
    import shutil

    from models.serving.bundle import bundle_names
    from models.serving.signing import sign as write_signature

    folder = _folder(bundle)
    _load_unsigned(folder)
    if out is not None:
        shutil.copytree(folder, out, dirs_exist_ok=True)
    elif bundle in bundle_names():
        _stop(f"{bundle} is shipped with the package: name a folder for the signed copy with --out")
    target = out or folder
    try:
        write_signature(target, key.read_bytes())
    except (ValueError, OSError) as error:
        _stop(f"--key {key}: {error}")
    typer.echo(f"signed: {target}")


@bundle_app.command()
def promote(
    bundle: Annotated[str, typer.Argument(help="a shipped bundle's name or a folder that every worker can read")],
    kafka: Kafka,
    at: At = "+60",
    reason: Reason = "",
    feature_config: Features = None,
) -> None:
    """Promote a bundle: it scores from an event-time barrier on. If it fails verification, the current one stays.

    Example: signals bundle promote ./bundles/new --kafka 127.0.0.1:9092 --at 2026-01-05T21:00:00
    """
    _announce("promote", kafka, at, reason, bundle, feature_config)


@bundle_app.command()
def shadow(
    kafka: Kafka,
    bundle: Annotated[str, typer.Argument(help="a shipped bundle's name or a folder; omit it to end the shadow")] = "",
    at: At = "+60",
    reason: Reason = "",
    feature_config: Features = None,
) -> None:
    """Score with a second bundle alongside the one in force, to a topic of its own, without signals; no bundle ends it.

    Example: signals bundle shadow ./bundles/new --kafka 127.0.0.1:9092
    """
    _announce("shadow" if bundle else "unshadow", kafka, at, reason, bundle, feature_config)


@bundle_app.command()
def rollback(kafka: Kafka, at: At = "+60", reason: Reason = "") -> None:
    """Roll back: the bundle before the last promotion scores again from a barrier on.

    Example: signals bundle rollback --kafka 127.0.0.1:9092 --at +30 --reason "too many rows out of distribution"
    """
    _announce("rollback", kafka, at, reason)


@bundle_app.command()
def reweigh(
    bundle: Annotated[str, typer.Argument(help="a shipped bundle's name or a folder")],
    signals: Annotated[Path, typer.Option(help="signals as JSON lines, as on topic trading-signals")],
    outcomes: Annotated[Path, typer.Option(help="their outcomes as JSON lines, as on topic signal-outcomes")],
    out: Annotated[Path, typer.Option(help="the new bundle's folder")],
) -> None:
    """Write a copy of a bundle with model weights learned from finished signals, within bounds.

    Example: signals bundle reweigh daily-swing --signals s.jsonl --outcomes o.jsonl --out bundles/learned
    """
    from connectors.files.messages import read_messages
    from models.messages import Outcome, Signal
    from models.outcomes.learned_weights import reweighed, verdicts
    from models.serving.bundle import write_bundle

    loaded = _load(bundle)
    loaded.close()
    try:
        history = verdicts(read_messages(signals, Signal), read_messages(outcomes, Outcome))
    except (OSError, ValueError) as error:
        _stop(str(error))
    manifest, lines = reweighed(loaded.manifest, history)
    write_bundle(out, manifest, {name: (_folder(bundle) / name).read_bytes() for name in manifest.files})
    for line in lines:
        typer.echo(line)
    typer.echo(f"{_load(str(out)).id} in {out}, from {len(history)} finished signals")


def figures(bundle: Bundle) -> str:
    """A bundle's out-of-sample figures next to their baselines, in one line."""
    metrics = bundle.manifest.metrics
    block = metrics.get("out_of_sample") or (metrics.get("walk_forward") or [None])[-1]
    if not block:
        return "no figures"
    forecast, signals = block["ensemble"], block["signals"]
    return (
        f"log loss {forecast['log_loss']:.4f} (base rates {forecast['log_loss_base_rates']:.4f}), "
        f"reward over every bar {signals['reward_over_every_bar'] or 0:+.3f} R (t {signals['t_value']:.1f})"
    )


def barrier_ms(text: str, now_ms: int) -> int:
    """Epoch milliseconds of a barrier given as ``+seconds``, epoch milliseconds or a UTC date and time.

    >>> barrier_ms("+60", 1_000), barrier_ms("1700000000000", 0), barrier_ms("1970-01-02", 0)
    (61000, 1700000000000, 86400000)
    """
    from datetime import UTC, datetime

    if text.startswith("+"):
        return now_ms + int(float(text[1:]) * 1000)
    if text.isdigit() and len(text) > 8:
        return int(text)
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _announce(
    kind: Kind, kafka: str, at: str, reason: str, bundle: str = "", feature_config: Path | None = None
) -> None:
    import time

    from connectors.kafka.bundle_changes import announce
    from models.serving.rollout import RolloutMessage

    now_ms = time.time_ns() // 1_000_000
    try:
        effective_ms = barrier_ms(at, now_ms)
    except ValueError:
        _stop(f"--at {at!r} is not a time: write +60, 1700000000000 or 2026-01-05T21:00:00")
    loaded = _load(bundle) if bundle else None
    if loaded:
        _check_features(loaded, feature_config)
    message = RolloutMessage(
        kind=kind,
        effective_ms=effective_ms,
        bundle=_reachable(bundle),
        bundle_id=loaded.id if loaded else "",
        feature_set_hash=loaded.feature_set_hash if loaded else "",
        timeframe=loaded.manifest.timeframe if loaded else "",
        issued_ms=now_ms,
        reason=reason,
    )
    if loaded:
        loaded.close()
    try:
        stored = announce(kafka, message)
    except ConnectionError as error:
        _stop(str(error))
    typer.echo(
        f"{kind} {message.bundle_id} announced as number {stored.sequence}: bars that end at or after "
        f"{_time(effective_ms)} ({effective_ms})"
    )


def _check_features(bundle: Bundle, feature_config: Path | None) -> None:
    """Exit unless jobs with that configuration compute the features the bundle was trained on."""
    from models.serving.bundle import BundleError
    from udfs.kernel.catalogue import FeatureConfig, feature_set

    try:
        config = FeatureConfig.from_json(feature_config.read_text()) if feature_config else FeatureConfig()
        bundle.check_features(feature_set(config))
    except BundleError as error:
        _stop(f"refused: {error}")
    except (OSError, ValueError) as error:
        _stop(f"--feature-config: {error}")


def _reachable(bundle: str) -> str:
    """A shipped name unchanged, a folder as an absolute path: workers have another working directory."""
    from models.serving.bundle import bundle_names

    return bundle if not bundle or bundle in bundle_names() else str(Path(bundle).resolve())


def _show_rollout(kafka: str) -> None:
    from connectors.kafka.bundle_changes import history

    try:
        messages = history(kafka)
    except ConnectionError as error:
        _stop(str(error))
    for message in messages:
        typer.echo(_line(message))
    state = state_after(messages)
    typer.echo(f"now in force: {_now(state)}")


def state_after(messages: list[RolloutMessage]) -> RolloutState:
    """Which bundle those changes leave in force; "the job's own" is the bundle each job was started with."""
    from models.serving.rollout import RolloutState, apply

    state = RolloutState(initial="the job's own")
    for message in messages:
        state = apply(state, message)
    return state


def _now(state: RolloutState) -> str:
    import time

    from models.serving.rollout import bundle_in_force, shadow_in_force

    now_ms = time.time_ns() // 1_000_000
    shadowed = shadow_in_force(state, now_ms)
    return bundle_in_force(state, now_ms) + (f", with {shadowed} in shadow" if shadowed else "")


def _line(message: RolloutMessage) -> str:
    named = message.bundle_id or message.bundle
    why = f" ({message.reason})" if message.reason else ""
    return f"{message.sequence:>4}  from {_time(message.effective_ms)}  {message.kind} {named}{why}"


def _folder(bundle: str) -> Path:
    from models.serving.bundle import bundle_path

    return Path(bundle) if Path(bundle).is_dir() else bundle_path(bundle)


def _load(bundle: str) -> Bundle:
    from models.serving.bundle import BundleError, load_bundle

    try:
        return load_bundle(_folder(bundle))
    except BundleError as error:
        _stop(f"refused: {error}")


def _load_unsigned(folder: Path) -> None:
    """Exit unless the bundle verifies; a signature is not required."""
    import os

    from models.serving.signing import PUBLIC_KEY_VARIABLE

    demanded = os.environ.pop(PUBLIC_KEY_VARIABLE, None)
    try:
        _load(str(folder)).close()
    finally:
        if demanded is not None:
            os.environ[PUBLIC_KEY_VARIABLE] = demanded


def _stop(text: str) -> NoReturn:
    typer.secho(text, fg="red", err=True)
    raise typer.Exit(2)


def _day(at_ms: int) -> str:
    return _time(at_ms)[:10]


def _time(at_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
