"""Scored frames to outgoing messages, without Flink: what is said of each bar, and what of it is a signal.

One decision a bar, always written to topic ``features``; a signal only when there is something new to act on.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.job_settings import JobSettings
from models.bundle import Bundle
from models.decide import REQUIRED_FEATURES, NoSignal, cancellation, decide, signal_id
from models.ensemble import ACTIONS, Decision, combine
from models.expiry import calendar, calendar_name
from models.messages import QUALITY, Action, Contribution, FeatureRow, Signal, encode
from models.policy import CAUSES, TRIGGERS, UNCHANGED, Policy, PolicyConfig
from models.record import record_hash, seal
from models.risk import Halts
from udfs.controls import apply_controls
from udfs.frames import FeatureFrame, ScoreFrame, dead_letter, outgoing


class DecidedFrame(msgspec.Struct):
    """A frame's outgoing messages, its signals, and how many decisions were withheld, by cause."""

    records: list[str]
    signals: list[Signal]
    withheld: dict[str, int]


class Decider:
    """Decides frames with one bundle; holds nothing of the stream (the caller holds each series' state row)."""

    def __init__(
        self,
        bundle: Bundle,
        names: Sequence[str],
        feature_set_hash: str,
        settings: JobSettings,
        policy: PolicyConfig | None = None,
    ) -> None:
        self.bundle, self.names, self.hash = bundle, tuple(names), feature_set_hash
        self._topics = {name: settings.topic(name) for name in ("trading-signals", "features", "dead-letter")}
        self._control_topic = settings.control_topic
        self._write_rows = settings.feature_rows
        self._emit_from_ms = settings.emit_from_ms or 0
        self._policy = Policy(policy)
        self._required = np.array([self.names.index(name) for name in REQUIRED_FEATURES])
        self._inputs = np.array([self.names.index(name) for name in bundle.features])
        self._price, self._atr = self.names.index("current_price"), self.names.index("atr_14")

    def new_states(self, n: int) -> NDArray[np.float64]:
        """Fresh state rows for n series."""
        return self._policy.new_states(n)

    def new_account(self) -> NDArray[np.float64]:
        """A fresh account row, one a symbol group."""
        return self._policy.new_account()

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
        so are ``halts``, by the frame's controls.
        """
        refused = apply_controls(halts, frame.controls, self._control_topic)
        decision = combine(scores.probability_array(), self.bundle.weights, self.bundle.thresholds)
        bars, values = frame.bar_matrix(), frame.value_matrix()
        verdicts = self._policy.run(
            states,
            rows,
            account,
            frame.series,
            frame.row_series(),
            bars,
            decision.action,
            decision.confidence,
            values[:, self._atr],
            ready=~np.isnan(values[:, self._required]).any(axis=1),
            halted=halts.mask([name for name, _, _ in frame.series], frame.row_series(), bars[:, 1]),
        )
        causes = verdicts.counts()
        withheld = {i: CAUSES[verdicts.cause[i]] for i in np.flatnonzero(verdicts.cause > UNCHANGED).tolist()}
        records: list[str] = []
        signals: list[Signal] = []
        explained = self._explain(values, decision.action, verdicts.emit)
        for i in np.flatnonzero(verdicts.emit | (verdicts.cancels >= 0)).tolist():
            if verdicts.emit[i]:
                made = self._signal(
                    frame, scores, bars, values, decision, i, explained[i], TRIGGERS[verdicts.trigger[i]]
                )
            else:
                made = self._cancellation(frame, scores, bars, i, int(verdicts.cancels[i]))
            if isinstance(made, NoSignal):
                withheld[i] = made.reason
                causes[made.reason] = causes.get(made.reason, 0) + 1
                continue
            made = seal(made, heads.get(made.symbol, ""))
            heads[made.symbol] = record_hash(made)
            if made.created_ms < self._emit_from_ms:
                continue
            signals.append(made)
            records.append(outgoing(self._topics["trading-signals"], made.symbol, made.created_ms, encode(made)))
        if self._write_rows:
            records += self._rows(frame, scores, bars, values, decision.action, decision.confidence, withheld)
        topic = self._topics["dead-letter"]
        now_ms = int(time.time() * 1000)
        letters = frame.dead_letters + [encode(dead_letter(source, reject)) for source, reject in refused]
        records += [outgoing(topic, str(frame.group), now_ms, letter) for letter in letters]
        return DecidedFrame(records, signals, causes)

    def _cancellation(
        self, frame: FeatureFrame, scores: ScoreFrame, bars: NDArray[np.float64], i: int, withdrawn: int
    ) -> Signal:
        symbol, timeframe, _ = frame.series[int(frame.row_series()[i])]
        end_ms = int(bars[i, 1])
        return cancellation(
            symbol=symbol,
            timeframe=timeframe,
            end_ms=end_ms,
            revision=int(bars[i, 7]),
            cancels=signal_id(symbol, timeframe, end_ms, withdrawn, scores.bundle),
            price=float(bars[i, 5]),
            bundle=scores.bundle,
            feature_set_hash=self.hash,
            emitted_ms=int(time.time() * 1000),
        )

    def _explain(
        self, values: NDArray[np.float64], actions: NDArray[np.int8], emit: NDArray[np.bool_]
    ) -> dict[int, list[Contribution]]:
        chosen = np.flatnonzero(emit)
        if not len(chosen):
            return {}
        inputs = values[chosen][:, self._inputs]
        towards_buy = self.bundle.explain(inputs)
        explained = {}
        for k, i in enumerate(chosen.tolist()):
            sign = 1.0 if actions[i] == 2 else -1.0
            explained[i] = [
                Contribution(feature=name, value=None if np.isnan(v) else float(v), contribution=sign * float(c))
                for name, v, c in zip(self.bundle.features, inputs[k].tolist(), towards_buy[k].tolist(), strict=True)
            ]
        return explained

    def _signal(
        self,
        frame: FeatureFrame,
        scores: ScoreFrame,
        bars: NDArray[np.float64],
        values: NDArray[np.float64],
        decision: Decision,
        i: int,
        contributions: Sequence[Contribution],
        trigger: str,
    ) -> Signal | NoSignal:
        symbol, timeframe, source = frame.series[int(frame.row_series()[i])]
        row = values[i].tolist()
        quality = frame.quality_matrix()[i].tobytes().decode("ascii")
        votes: dict[str, tuple[Action, float]] = {
            model: (ACTIONS[vote], probability)
            for model, vote, probability in zip(
                scores.models, decision.votes[i].tolist(), decision.vote_probability[i].tolist(), strict=True
            )
            if vote >= 0
        }
        return decide(
            symbol=symbol,
            timeframe=timeframe,
            end_ms=int(bars[i, 1]),
            revision=int(bars[i, 7]),
            price=row[self._price],
            atr=row[self._atr],
            action=ACTIONS[int(decision.action[i])],
            confidence=float(decision.confidence[i]),
            votes=votes,
            skipped=scores.skipped,
            features=dict(zip(self.names, row, strict=True)),
            contributions=contributions,
            missing={name: QUALITY[mark] for name, mark in zip(self.names, quality, strict=True) if mark != "."},
            feature_set_hash=self.hash,
            bundle=scores.bundle,
            emitted_ms=int(time.time() * 1000),
            trigger=trigger,
            calendar=calendar(calendar_name(symbol, source)),
        )

    def _rows(
        self,
        frame: FeatureFrame,
        scores: ScoreFrame,
        bars: NDArray[np.float64],
        values: NDArray[np.float64],
        actions: NDArray[np.int8],
        confidences: NDArray[np.float64],
        withheld: dict[int, str],
    ) -> list[str]:
        topic, bundle, feature_hash = self._topics["features"], scores.bundle, self.hash
        width = values.shape[1]
        quality = frame.quality_matrix().tobytes().decode("ascii")
        series = frame.series
        records = []
        columns = zip(
            frame.row_series().tolist(),
            bars[:, 0].astype(np.int64).tolist(),
            bars[:, 1].astype(np.int64).tolist(),
            bars[:, 7].astype(np.int64).tolist(),
            values.tolist(),
            actions.tolist(),
            confidences.tolist(),
            strict=True,
        )
        for i, (which, start_ms, end_ms, revision, row, action, confidence) in enumerate(columns):
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
                bundle=bundle,
                withheld=withheld.get(i, ""),
            )
            records.append(outgoing(topic, symbol, end_ms, encode(message)))
        return records
