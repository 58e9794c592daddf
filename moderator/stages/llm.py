"""The language model: asked last, about what the stages before it left open.

It is no `Stage`: it waits for a network, so it is asked one finding at a time
beside the cascade. What its answer may do is the corridor, in `weigh`: the
confidence moves by at most 0.3, the risk by at most one step, never to low, and
nothing goes down for a live credential or beside a text that speaks to its
reader. Whatever goes wrong, the verdict of the stages before it stands, marked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from moderator.llm.breaker import Breaker
from moderator.llm.budget import Budget
from moderator.llm.client import Client, Unanswered
from moderator.llm.envelope import Envelope, clean, compose, value_of
from moderator.llm.opened import Opened
from moderator.llm.prompt import PROBABILITY, SAYS, VERSION, Answer, Likelihood, digest
from moderator.stage import Observation, Opinion, Subject
from runtime import metrics
from runtime.log import get_logger
from winnow.finding.v1.finding_pb2 import (
    FINDING_KIND_POSSIBLE_SECRET,
    FINDING_KIND_UNSPECIFIED,
    TRIAGE_TRUE_POSITIVE,
    TRIAGE_UNSPECIFIED,
    VALIDITY_DEAD,
    VALIDITY_LIVE,
    VALUE_STATE_PRESENT,
    Validity,
)
from winnow.finding.v1.verdict_pb2 import (
    RISK_HIGH,
    RISK_LOW,
    RISK_MEDIUM,
    VERDICT_SOURCE_LLM,
    Risk,
    Verdict,
)
from winnow.moderate.v1.moderate_service_pb2 import LlmUsage

_log = get_logger()

CORRIDOR = 0.3
# Confidence at which a risk moves: up when it is reached, down when it is left.
_TO_MEDIUM = 0.5
_TO_HIGH = 0.8
_FROM_HIGH = 0.7
_ANSWERS = 16384
_MAX_REASON = 512
_NAMES = {RISK_HIGH: "high", RISK_MEDIUM: "medium", RISK_LOW: "low"}
_THINKS = {
    Likelihood.VERY_UNLIKELY: "very unlikely to be real",
    Likelihood.UNLIKELY: "unlikely to be real",
    Likelihood.LIKELY: "likely to be real",
    Likelihood.VERY_LIKELY: "very likely to be real",
}
_WITHOUT = {
    "llm.budget": "the language model was not asked: the budget is spent",
    "llm.breaker": "the language model was not asked: it has failed several times in a row",
    "llm.withheld": "the language model was not asked: a value could have stood in the question",
    "llm.deadline": "the report's time for the language model was over",
    "llm.timeout": "the language model did not answer in time",
    "llm.rate_limited": "the language model's provider limits the rate of calls",
    "llm.overloaded": "the language model's provider is overloaded",
    "llm.unavailable": "the language model's provider cannot be reached",
    "llm.misconfigured": "the language model's provider refuses the call: check key and model",
    "llm.refused": "the language model refused to answer",
    "llm.invalid": "the language model's answer has not the form that was asked for",
}
_MARKS = {rule: Observation(rule, "llm", 0.0, says) for rule, says in _WITHOUT.items()}
# What of a verdict's inputs is this stage's.
_RECEIPT = ("prompt", "llm_model")

_SPEAKS = Observation(
    "llm.text_speaks",
    "context",
    0.0,
    "text around the value may speak to its reader, so the language model may not lower anything",
)
# Nothing left the house.
_UNSENT = frozenset({"llm.budget", "llm.breaker", "llm.withheld"})

Asked = Sequence[tuple[str, Opinion]]
# Runs a function with arguments in the judging thread.
InThread = Callable[..., Awaitable[Any]]


class Outcome(NamedTuple):
    """What asking came to.

    `opinion` is None where the verdict stands as it was; `observations` say why,
    or what the model answered; `inputs` name what the verdict was made from.
    """

    opinion: Opinion | None
    observations: tuple[Observation, ...]
    inputs: Mapping[str, str]


class Limits(NamedTuple):
    """Bounds of one report: questions, and seconds after the first of them."""

    calls: int
    seconds: float


class Case:
    """One report: its opened values, its calls, its deadline.

    Args:
        tenant: whose.
        calls: how many questions may still be asked, answered from the cache or not.
        used: what the calls take is added to it.
    """

    def __init__(self, tenant: str, calls: int, used: LlmUsage) -> None:
        self.used = used
        self.tenant = tenant
        self.calls = calls
        self.until: float | None = None
        self.opened = Opened()

    @property
    def spent(self) -> Observation | None:
        """The mark of findings that are not asked about, once no call is left."""
        return _MARKS["llm.budget"] if self.calls <= 0 else None

    def pass_over(self) -> None:
        """Counts a finding that is not asked about."""
        self.without("budget")

    def without(self, why: str) -> None:
        """Counts a finding that keeps the verdict it had."""
        self.used.unanswered[why] += 1
        metrics.LLM_FALLBACKS.labels(why).inc()

    @staticmethod
    def wants(subject: Subject, last: Opinion) -> bool:
        """Whether the model is the one to ask: about a secret whose value is known,
        so that it can be masked, that nobody has settled, and that is in doubt."""
        finding = subject.finding
        return (
            not last.decisive
            and finding.kind in (FINDING_KIND_POSSIBLE_SECRET, FINDING_KIND_UNSPECIFIED)
            and subject.evidence is not None
            and finding.value_state == VALUE_STATE_PRESENT
            and finding.validity != VALIDITY_DEAD
            and finding.triage in (TRIAGE_UNSPECIFIED, TRIAGE_TRUE_POSITIVE)
        )

    def keep(self, subjects: Sequence[Subject]) -> None:
        """Keeps the values of findings that were opened."""
        for subject in subjects:
            if subject.evidence is not None:
                self.opened.add(value_of(subject.evidence))


class LanguageModel:
    """Asks, within all bounds. Belongs to one event loop.

    Args:
        client: the model.
        budget: dollars a day.
        breaker: of the client's provider.
        limits: of each report.
        concurrency: calls at once.
    """

    name = "llm"
    version = 1
    source = VERDICT_SOURCE_LLM

    def __init__(
        self, client: Client, budget: Budget, breaker: Breaker, limits: Limits, concurrency: int
    ) -> None:
        self._client = client
        self._budget = budget
        self._breaker = breaker
        self._limits = limits
        self._slots = asyncio.Semaphore(concurrency)
        # Prompt version, model, digest of prompt and envelope -> answer.
        self._answers: OrderedDict[tuple[int, str, str], Answer] = OrderedDict()

    def case(self, tenant: str, used: LlmUsage) -> Case:
        """Begins a report; what its calls take is added to `used`."""
        return Case(tenant, self._limits.calls, used)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def settle(self, case: Case, subject: Subject, asked: Asked, run: InThread) -> Outcome:
        """The outcome of asking about one finding. Never raises but when cancelled.

        Args:
            case: the finding's report.
            subject: a finding that the case wants.
            asked: what the stages before said, in order.
            run: runs a function in the judging thread, where `case.opened` grows.
        """
        loop = asyncio.get_running_loop()
        if case.until is None:
            case.until = loop.time() + self._limits.seconds
        sent: Envelope | None = None
        try:
            async with asyncio.timeout_at(case.until):
                if case.calls <= 0:
                    raise Unanswered("llm.budget")
                case.calls -= 1
                sent = await run(compose, subject, asked, case.opened)
                if sent is None:
                    raise Unanswered("llm.withheld")
                answer = await self._answer(case, sent, run)
        except TimeoutError:
            return self._without("llm.deadline", case, sent)
        except Unanswered as error:
            return self._without(error.rule, case, sent)
        except Exception as error:  # noqa: BLE001 -- a defect here must not cost the report
            _log.error("llm.defect", status="llm.unavailable", exc_info=error)
            return self._without("llm.unavailable", case, sent)
        live = subject.finding.validity == VALIDITY_LIVE
        opinion = weigh(asked[-1][1], answer, quiet=sent.quiet, live=live)
        inputs = {**self._inputs(sent), "answer": digest(answer.text())}
        return Outcome(opinion, opinion.observations, inputs)

    async def _answer(self, case: Case, sent: Envelope, run: InThread) -> Answer:
        """From the cache, or from the model."""
        key = (VERSION, self._client.model, sent.prompt)
        if key not in self._answers:
            async with self._slots:
                # Somebody may have asked the same while this one waited.
                if key not in self._answers:
                    self._keep(key, await self._ask(case, sent, run))
        self._answers.move_to_end(key)
        return self._answers[key]

    async def _ask(self, case: Case, sent: Envelope, run: InThread) -> Answer:
        # Others were opened while this one waited.
        if not await run(clean, sent.content, case.opened):
            raise Unanswered("llm.withheld")
        if not self._breaker.allows():
            raise Unanswered("llm.breaker")
        reserved = self._budget.reserve(case.tenant, self._client.most(sent.content))
        if reserved is None:
            raise Unanswered("llm.budget")
        try:
            reply = await self._client.ask(sent.content, sent.prompt, case.used)
        except Unanswered as error:
            # Where nobody knows what the call cost, what was set aside stays spent.
            if error.usd is not None:
                self._budget.settle(reserved, error.usd)
            if error.rule == "llm.refused":
                self._breaker.succeeded()
            else:
                self._breaker.failed()
            raise
        self._breaker.succeeded()
        self._budget.settle(reserved, reply.usd)
        return reply.answer

    def _keep(self, key: tuple[int, str, str], answer: Answer) -> None:
        self._answers[key] = answer
        if len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)

    def _inputs(self, sent: Envelope) -> dict[str, str]:
        return {"prompt": sent.prompt, "llm_model": self._client.model}

    def _without(self, rule: str, case: Case, sent: Envelope | None) -> Outcome:
        case.without(rule.removeprefix("llm."))
        left = sent is not None and rule not in _UNSENT
        return Outcome(None, (_MARKS[rule],), self._inputs(sent) if sent and left else {})


def recall(base: Opinion, validity: Validity.ValueType, earlier: Verdict) -> Outcome:
    """The outcome that an earlier verdict recorded, weighed anew; nobody is asked.

    Args:
        base: the last opinion of the stages before.
        validity: of the finding.
        earlier: a verdict with this stage's evidence.
    """
    seen = [one for one in earlier.evidence if one.stage == LanguageModel.name]
    inputs = {name: earlier.inputs[name] for name in _RECEIPT if name in earlier.inputs}
    said = next((one.detail for one in seen if one.rule == "llm.answer"), None)
    if said is None:
        marks = [Observation(o.rule, o.where, o.weight, o.detail) for o in seen]
        return Outcome(None, tuple(marks), inputs)
    answer = Answer.of_text(said)
    quiet = all(one.rule != _SPEAKS.rule for one in seen)
    opinion = weigh(base, answer, quiet=quiet, live=validity == VALIDITY_LIVE)
    return Outcome(opinion, opinion.observations, {**inputs, "answer": digest(answer.text())})


def weigh(base: Opinion, answer: Answer, *, quiet: bool, live: bool) -> Opinion:
    """The opinion that an answer makes of what the stages before it said.

    The same arguments give the same opinion, so a verdict can be checked later
    from its stored answer.

    Args:
        base: the last opinion of the stages before.
        answer: the model's.
        quiet: nothing that the model read speaks to a reader.
        live: the provider accepted the credential.
    """
    before = 0.5 if base.confidence is None else base.confidence
    target = PROBABILITY[answer.likelihood]
    after = before
    if target is not None:
        after = round(min(max(target, before - CORRIDOR), before + CORRIDOR), 4)
    kept = after < before and (live or not quiet)
    if kept:
        after = before
    risk = _risk(base.risk, before, after)
    seen = Observation("llm.answer", "context", round(after - before, 4), answer.text())
    # Without a movement a confidence that nobody could tell is not made up.
    confidence = base.confidence if after == before else after
    return Opinion(
        risk=risk,
        confidence=confidence,
        reason=_reason(base, answer, risk, kept),
        observations=(seen, _SPEAKS) if not quiet else (seen,),
        decisive=True,
    )


def _risk(risk: Risk.ValueType, before: float, after: float) -> Risk.ValueType:
    """One step at most, and never to low. A risk that the confidence did not decide
    before is not decided by it now."""
    if risk == RISK_LOW and before < _TO_MEDIUM <= after:
        return RISK_MEDIUM
    if risk == RISK_MEDIUM and before < _TO_HIGH <= after:
        return RISK_HIGH
    if risk == RISK_HIGH and after < min(before, _FROM_HIGH):
        return RISK_MEDIUM
    return risk


def _reason(base: Opinion, answer: Answer, risk: Risk.ValueType, kept: bool) -> str:
    """Why, in at most 512 characters of our own words."""
    thinks = _THINKS.get(answer.likelihood)
    if thinks is None:
        said = "The language model could not tell."
    else:
        said = f"The language model calls it {thinks}: {SAYS[answer.reasons[0]]}."
    if kept:
        said += " That may not lower this verdict."
    elif risk != base.risk:
        said += f" This moves it from {_NAMES[base.risk]} to {_NAMES[risk]}."
    return f"{base.reason[: _MAX_REASON - len(said) - 1]} {said}"
