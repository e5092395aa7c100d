"""Scored frames to outgoing messages, without Flink: one decision per bar, and which decisions become signals.

One decision per bar, always written to topic ``features``; a signal only when there is something new to act on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.venues import calendar_name
from models.messages import QUALITY, TIMEFRAME_MS, Action, Contribution, FeatureRow, News, Signal, encode
from models.serving import drift, rollout
from models.serving.bundle import Bundle, columns_of, silences
from models.serving.ensemble import ACTIONS, NONE, Decision, combine
from models.serving.feature_set import FeatureSet
from models.serving.rollout import SHADOW_TOPIC, ShadowScore
from models.signals.decide import REQUIRED_FEATURES, NoSignal, cancellation, decide, signal_id
from models.signals.emission import CAUSES, TRIGGERS, UNCHANGED, Policy, PolicyConfig
from models.signals.hash_chain import record_hash, seal
from models.signals.outputs import OUTPUT_TOPICS
from models.signals.protections import Halts
from models.trade.calendar import calendar
from udfs.frames.codec import FeatureFrame, Part, PartScores, ScoreFrame
from udfs.frames.output_batch import OutputBatch
from udfs.frames.reader import dead_letter
from udfs.steps.halts import apply_side_messages

#: Why no signal follows a decision of a bundle whose age leaves no confidence.
EXPIRED_CAUSE = "bundle_expired"


class DecidedFrame(msgspec.Struct):
    """A frame's outgoing messages, its signals and news, and how many decisions were withheld, by cause.

    ``unknown_events`` counts status events of kinds that this release does not know.
    """

    records: OutputBatch
    signals: list[Signal]
    withheld: dict[str, int]
    news: list[News] = []
    unknown_events: int = 0


class Verdict(msgspec.Struct):
    """One bundle's decisions on its part of a frame; ``bundle`` is None where it could not be used.

    ``decision`` has the part's rows, ``dissimilar`` and ``expired`` bool[n] mark confidences lowered for that.
    """

    bundle: Bundle | None
    scores: PartScores
    decision: Decision
    dissimilar: NDArray[np.bool_]
    expired: NDArray[np.bool_]


def judge(bundle: Bundle | None, scores: PartScores, end_ms: NDArray[np.float64]) -> Verdict:
    """The ensemble's decision of each bar that ends at ``end_ms``, less sure of rows and bundles out of their time."""
    n = len(end_ms)
    nothing = np.zeros(n, np.bool_)
    if bundle is None:
        silent = np.empty((n, 0))
        decision = Decision(np.full(n, NONE, np.int8), np.full(n, np.nan), silent.astype(np.int8), silent)
        return Verdict(None, scores, decision, nothing, nothing)
    decision = combine(scores.probability_array(), bundle.weights, bundle.thresholds)
    dissimilar, expired, confidence = nothing, nothing, decision.confidence
    reference, life = bundle.manifest.reference, bundle.manifest.life
    if scores.unlike and reference is not None:
        dissimilar = drift.dissimilar(np.frombuffer(scores.unlike), reference)
        if dissimilar.any():
            confidence = drift.lower(confidence, dissimilar)
    if n and life.max_age_days is not None and rollout.expired(bundle.manifest, int(end_ms.max())):
        expired = np.array([rollout.expired(bundle.manifest, int(end)) for end in end_ms.tolist()])
        confidence = np.where(expired, confidence * life.expired_confidence, confidence)
    return Verdict(bundle, scores, decision._replace(confidence=confidence), dissimilar, expired)


@dataclass(frozen=True)
class DecideSettings:
    """Where decisions go, and which of them are sent.

    ``topics``: the name of each output topic by its usual name. ``side_topics``: the message type of each topic that
    travels in frames alongside the bars. ``feature_rows``: send a row per bar. ``emit_from_ms``: send only what follows
    from bars that end at or after this (epoch ms).
    """

    topics: Mapping[str, str] = field(default_factory=lambda: {name: name for name in OUTPUT_TOPICS})
    side_topics: Mapping[str, type[Any]] = field(default_factory=dict)
    feature_rows: bool = True
    emit_from_ms: int = 0


#: Features that deciding reads by name, whatever a bundle needs.
READ_BY_DECIDING = (*REQUIRED_FEATURES, "current_price", "atr_14")


def require_features(names: Sequence[str]) -> None:
    """Raise ValueError unless a job that computes these features can decide: it reads some of them by name."""
    lacking = [name for name in READ_BY_DECIDING if name not in names]
    if lacking:
        raise ValueError(
            f"feature configuration: deciding reads {', '.join(lacking)}, which it does not compute: leave out "
            '"families" or add theirs (rsi, macd, volume, context, volatility), and leave their periods as they are'
        )


class Decider:
    """Decides frames; holds nothing of the stream (the caller holds each series' state row).

    ``bundles`` gives the bundle of a reference (``models.serving.bundle_cache.BundleCache.get``).
    """

    def __init__(
        self,
        bundles: Callable[[str], Bundle],
        job: FeatureSet,
        settings: DecideSettings,
        policy: PolicyConfig | None = None,
    ) -> None:
        require_features(job.names)
        self._bundles, self.names, self.hash = bundles, job.names, job.hash
        self._topics = settings.topics
        self._side_topics = settings.side_topics
        self._write_rows = settings.feature_rows
        self._emit_from_ms = settings.emit_from_ms
        self._policy = Policy(policy, calendar_name)
        self._required = np.array([self.names.index(name) for name in REQUIRED_FEATURES])
        self._price, self._atr = self.names.index("current_price"), self.names.index("atr_14")

    def new_states(self, n: int) -> NDArray[np.float64]:
        """Fresh state rows for n series."""
        return self._policy.new_states(n)

    def new_account(self) -> NDArray[np.float64]:
        """A fresh account row, one a symbol group."""
        return self._policy.new_account()

    def warm_up(self, reference: str) -> DecidedFrame:
        """Walk the way of a signal once on made-up numbers, so that the first real one does not pay for it."""
        bundle = self._bundles(reference)
        timeframe = bundle.manifest.timeframe
        models = tuple(spec.name for spec in bundle.manifest.models)
        values = np.ones((1, len(self.names)))
        values[0, self._price] = 100.0
        end_ms = 1_704_229_200_000.0  # the close of a session, in every calendar
        bar = np.array([[end_ms - TIMEFRAME_MS[timeframe], end_ms, 100.0, 100.0, 100.0, 100.0, 1.0, 0.0]])
        frame = FeatureFrame(
            group=0,
            width=len(self.names),
            series=[("WARM-UP", timeframe, "")],
            index=np.zeros(1, np.int32).tobytes(),
            bars=bar.tobytes(),
            values=values.tobytes(),
            quality=b"." * len(self.names),
            parts=[Part(reference)],
            shadows=[],
            dead_letters=[],
        )
        sure = np.tile([0.0, 0.0, 1.0], (1, len(models), 1))
        scores = ScoreFrame([PartScores(frame.parts[0], bundle.id, models, sure.tobytes(), {})], [])
        heads = {"WARM-UP": ""}
        return self.decide(
            frame, scores, self.new_states(1), np.zeros(1, np.int64), self.new_account(), heads, Halts()
        )  # fmt: skip

    def decide(
        self,
        frame: FeatureFrame,
        scores: ScoreFrame,
        states: NDArray[np.float64],
        rows: NDArray[np.int64],
        account: NDArray[np.float64],
        heads: MutableMapping[str, str],
        halts: Halts,
    ) -> DecidedFrame:
        """Decide every bar of a frame in order; ``rows`` maps the frame's series to rows of ``states``.

        ``states``, the group's ``account`` and ``heads`` (symbol -> hash of its last signal) are updated in place, and
        so are ``halts``, by the frame's side messages.
        """
        applied = apply_side_messages(halts, frame.side_messages, self._side_topics)
        bars, values = frame.bar_matrix(), frame.value_matrix()
        n = len(frame)
        action, confidence = np.full(n, NONE, np.int8), np.full(n, np.nan)
        verdict_of, place_in = np.zeros(n, np.intp), np.arange(n)
        verdicts = [self._judge(part, bars, n) for part in scores.parts]
        for k, verdict in enumerate(verdicts):
            numbers = verdict.scores.part.bar_numbers(n)
            action[numbers], confidence[numbers] = verdict.decision.action, verdict.decision.confidence
            verdict_of[numbers], place_in[numbers] = k, np.arange(len(numbers))
        too_old = (action != NONE) & (confidence <= 0.0)
        action[too_old] = NONE
        said = self._policy.run(
            states,
            rows,
            account,
            frame.series,
            frame.row_series(),
            bars,
            action,
            confidence,
            values[:, self._atr],
            ready=~np.isnan(values[:, self._required]).any(axis=1),
            halted=halts.mask([name for name, _, _ in frame.series], frame.row_series(), bars[:, 1]),
        )
        causes = said.counts()
        withheld = {i: CAUSES[said.cause[i]] for i in np.flatnonzero(said.cause > UNCHANGED).tolist()}
        for i in np.flatnonzero(too_old).tolist():
            if withheld.get(i) == "no_models":
                withheld[i] = EXPIRED_CAUSE
                causes["no_models"] -= 1
                causes[EXPIRED_CAUSE] = causes.get(EXPIRED_CAUSE, 0) + 1
        records = OutputBatch()
        signals: list[Signal] = []
        explained = self._explain(values, action, said.emit, verdicts, verdict_of)
        for i in np.flatnonzero(said.emit | (said.cancels >= 0)).tolist():
            verdict = verdicts[verdict_of[i]]
            if said.emit[i]:
                made = self._signal(
                    frame, verdict, int(place_in[i]), bars, values, i, explained[i], TRIGGERS[said.trigger[i]]
                )
            else:
                made = self._cancellation(frame, verdict, bars, i, int(said.cancels[i]))
            if isinstance(made, NoSignal):
                withheld[i] = made.reason
                causes[made.reason] = causes.get(made.reason, 0) + 1
                continue
            made = seal(made, heads.get(made.symbol, ""))
            heads[made.symbol] = record_hash(made)
            if made.created_ms < self._emit_from_ms:
                continue
            signals.append(made)
            records.add(self._topics["trading-signals"], made.symbol, made.created_ms, encode(made))
        if self._write_rows:
            names = [verdict.scores.bundle_id for verdict in verdicts]
            self._rows(records, frame, names, verdict_of, bars, values, action, confidence, withheld)
        for shadow in scores.shadows:
            self._shadow_rows(records, frame, scores, self._judge(shadow, bars, n), bars)
        topic = self._topics["dead-letter"]
        now_ms = int(time.time() * 1000)
        letters = frame.dead_letters + [encode(dead_letter(source, reject)) for source, reject in applied.refused]
        for letter in letters:
            records.add(topic, str(frame.group), now_ms, letter)
        return DecidedFrame(records, signals, causes, applied.news, len(applied.unknown_kinds))

    def _judge(self, scores: PartScores, bars: NDArray[np.float64], n: int) -> Verdict:
        bundle = self._bundles(scores.part.bundle) if scores.models else None
        return judge(bundle, scores, bars[scores.part.bar_numbers(n), 1])

    def _cancellation(
        self, frame: FeatureFrame, verdict: Verdict, bars: NDArray[np.float64], i: int, withdrawn: int
    ) -> Signal:
        symbol, timeframe, _ = frame.series[int(frame.row_series()[i])]
        end_ms, bundle = int(bars[i, 1]), verdict.scores.bundle_id
        return cancellation(
            symbol=symbol,
            timeframe=timeframe,
            end_ms=end_ms,
            revision=int(bars[i, 7]),
            cancels=signal_id(symbol, timeframe, end_ms, withdrawn, bundle),
            price=float(bars[i, 5]),
            bundle=bundle,
            feature_set_hash=verdict.bundle.feature_set_hash if verdict.bundle else self.hash,
            emitted_ms=int(time.time() * 1000),
        )

    def _explain(
        self,
        values: NDArray[np.float64],
        actions: NDArray[np.int8],
        emit: NDArray[np.bool_],
        verdicts: Sequence[Verdict],
        verdict_of: NDArray[np.intp],
    ) -> dict[int, list[Contribution]]:
        explained = {}
        for which, verdict in enumerate(verdicts):
            chosen = np.flatnonzero(emit & (verdict_of == which))
            bundle = verdict.bundle
            if not len(chosen) or bundle is None:
                continue
            inputs = values[chosen][:, columns_of(bundle.features, self.names)]
            towards_buy = bundle.explain(inputs)
            for k, i in enumerate(chosen.tolist()):
                sign = 1.0 if actions[i] == 2 else -1.0
                explained[i] = [
                    Contribution(feature=name, value=None if np.isnan(v) else float(v), contribution=sign * float(c))
                    for name, v, c in zip(bundle.features, inputs[k].tolist(), towards_buy[k].tolist(), strict=True)
                ]
        return explained

    def _signal(
        self,
        frame: FeatureFrame,
        verdict: Verdict,
        place: int,
        bars: NDArray[np.float64],
        values: NDArray[np.float64],
        i: int,
        contributions: Sequence[Contribution],
        trigger: str,
    ) -> Signal | NoSignal:
        symbol, timeframe, source = frame.series[int(frame.row_series()[i])]
        row = values[i].tolist()
        quality = frame.quality_matrix()[i].tobytes().decode("ascii")
        decision, scores = verdict.decision, verdict.scores
        flags = [
            name
            for name, lowered in (("unlike_training", verdict.dissimilar), ("bundle_expired", verdict.expired))
            if lowered[place]
        ]
        made = decide(
            symbol=symbol,
            timeframe=timeframe,
            end_ms=int(bars[i, 1]),
            revision=int(bars[i, 7]),
            price=row[self._price],
            atr=row[self._atr],
            action=ACTIONS[int(decision.action[place])],
            confidence=float(decision.confidence[place]),
            votes=_votes(scores.models, decision, place),
            skipped=self._silences(verdict, values[i], place),
            features=dict(zip(self.names, row, strict=True)),
            contributions=contributions,
            missing={name: QUALITY[mark] for name, mark in zip(self.names, quality, strict=True) if mark != "."},
            feature_set_hash=verdict.bundle.feature_set_hash if verdict.bundle else self.hash,
            bundle=scores.bundle_id,
            emitted_ms=int(time.time() * 1000),
            trigger=trigger,
            calendar=calendar(calendar_name(symbol, source)),
        )
        return msgspec.structs.replace(made, quality_flags=flags) if flags and isinstance(made, Signal) else made

    def _silences(self, verdict: Verdict, row: NDArray[np.float64], place: int) -> dict[str, str]:
        bundle, answers = verdict.bundle, verdict.scores.probability_array()[place]
        if bundle is None or not (verdict.scores.skipped or np.isnan(answers).any()):
            return verdict.scores.skipped
        inputs = row[columns_of(bundle.features, self.names)]
        return silences(
            bundle.manifest.models, bundle.features, ~np.isfinite(inputs), answers, verdict.scores.skipped
        )  # fmt: skip

    def _shadow_rows(
        self,
        records: OutputBatch,
        frame: FeatureFrame,
        scores: ScoreFrame,
        verdict: Verdict,
        bars: NDArray[np.float64],
    ) -> None:
        """What a bundle in shadow would have said, for its own topic."""
        n = len(frame)
        in_force = [""] * n
        for part in scores.parts:
            for i in part.part.bar_numbers(n).tolist():
                in_force[i] = part.bundle_id
        series, index = frame.series, frame.row_series()
        for place, i in enumerate(verdict.scores.part.bar_numbers(n).tolist()):
            end_ms = int(bars[i, 1])
            if end_ms < self._emit_from_ms:
                continue
            symbol, timeframe, _ = series[int(index[i])]
            action = int(verdict.decision.action[place])
            score = ShadowScore(
                symbol=symbol,
                timeframe=timeframe,
                end_ms=end_ms,
                bundle=verdict.scores.bundle_id,
                action=ACTIONS[action] if action >= 0 else "none",
                confidence=float(verdict.decision.confidence[place]) if action >= 0 else None,
                in_force=in_force[i],
                model_votes=_votes(verdict.scores.models, verdict.decision, place),
                skipped_models=verdict.scores.skipped,
            )
            records.add(self._topics[SHADOW_TOPIC], symbol, end_ms, encode(score))

    def _rows(
        self,
        records: OutputBatch,
        frame: FeatureFrame,
        bundles: Sequence[str],
        verdict_of: NDArray[np.intp],
        bars: NDArray[np.float64],
        values: NDArray[np.float64],
        actions: NDArray[np.int8],
        confidences: NDArray[np.float64],
        withheld: dict[int, str],
    ) -> None:
        """One row a bar, for topic ``features``."""
        topic, feature_hash = self._topics["features"], self.hash
        width = values.shape[1]
        quality = frame.quality_matrix().tobytes().decode("ascii")
        series = frame.series
        columns = zip(
            frame.row_series().tolist(),
            bars[:, 0].astype(np.int64).tolist(),
            bars[:, 1].astype(np.int64).tolist(),
            bars[:, 7].astype(np.int64).tolist(),
            values.tolist(),
            actions.tolist(),
            confidences.tolist(),
            verdict_of.tolist(),
            strict=True,
        )
        for i, (which, start_ms, end_ms, revision, row, action, confidence, scored_by) in enumerate(columns):
            if end_ms < self._emit_from_ms:
                continue
            symbol, timeframe, _ = series[which]
            message = FeatureRow(
                symbol=symbol,
                timeframe=timeframe,
                start_ms=start_ms,
                end_ms=end_ms,
                revision=revision,
                feature_set_hash=feature_hash,
                values=row,
                quality=quality[i * width : (i + 1) * width],
                action=ACTIONS[action] if action >= 0 else None,
                confidence=confidence if action >= 0 else None,
                bundle=bundles[scored_by],
                withheld=withheld.get(i, ""),
            )
            records.add(topic, symbol, end_ms, encode(message))


def _votes(models: Sequence[str], decision: Decision, place: int) -> dict[str, tuple[Action, float]]:
    """Each voting model's action and probability on one row."""
    return {
        model: (ACTIONS[vote], probability)
        for model, vote, probability in zip(
            models, decision.votes[place].tolist(), decision.vote_probability[place].tolist(), strict=True
        )
        if vote >= 0
    }
