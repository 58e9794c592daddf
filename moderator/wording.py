"""Reasons as an engineer would write them, from the rules' own words only."""

from __future__ import annotations

from collections.abc import Sequence

from moderator.rules import Clue, Title
from moderator.weighing import MISMADE, SIDE_PLACES, Weighed
from winnow.finding.v1.verdict_pb2 import RISK_LOW, RISK_MEDIUM, Risk

MAX_REASON = 512
_STRONG = 1.0

_NOT_A_CREDENTIAL = {
    "placeholder": "Placeholder, not a credential",
    "sample": "Published example, not a credential",
    "reference": "Reference to a value kept elsewhere, not the value itself",
    "public": "Public identifier, not a credential",
    "digest": "Digest, not a credential",
    "code": "Program code, not a credential",
    "text": "Readable text, not a credential",
    "trap": "Canary token, not a credential that opens anything",
    "encrypted": "Encrypted value, of no use without its key",
}
_GENERIC_SUBJECTS = ("AWS secret access key", "password", "API key", "secret", "token")
_UNSEEN = " The report does not hold the value: only its rule and place were weighed."
_FIRST_FIND_OUT = "Find out whether it is real; if so, revoke it and issue a new one."
_LOWER_CASE_BRANDS = frozenset({"npm", "age"})
_REMEDIES = {
    "account": "Revoke it, issue a new one, and look for its use in the audit trail; removing it from the file alone does not help.",
    "service": "Revoke it, issue a new one, and keep that one in a secret store.",
    "limited": "Check whether it is in use; if so, replace it and keep it out of the repository.",
    "public": "It is public by design and opens nothing by itself.",
}


def _join(clauses: Sequence[str]) -> str:
    return ", and ".join(dict.fromkeys(clauses))


def _place(clues: Sequence[Clue]) -> Clue | None:
    """The place that names the finding: a test or a document before its folder."""
    places = [clue for clue in clues if clue.where == "path"]
    if not places:
        return None
    return max(places, key=lambda clue: (clue.kind in SIDE_PLACES, abs(clue.weight)))


def _subject(clues: Sequence[Clue], provider: Clue | None, title: Title | None) -> str:
    if provider is not None and provider.provider is not None:
        known = provider.provider.title
        # A brand keeps its own spelling: npm, age.
        brand = known.partition(" ")[0] in _LOWER_CASE_BRANDS
        return known if brand else known[0].upper() + known[1:]
    if title is not None:
        return f"Possible {title.title}"
    kinds = {clue.kind for clue in clues}
    for kind in _GENERIC_SUBJECTS:
        if kind in kinds:
            return f"Possible {kind}"
    return "Possible credential"


def reason(weighed: Weighed, risk: Risk.ValueType, doubtful: bool) -> str:
    """Why, in at most 512 characters; the same clues give the same words.

    Args:
        weighed: the clues.
        risk: what they come to.
        doubtful: whether the confidence is below one half.
    """
    clues, provider, impact = weighed.clues, weighed.provider, weighed.opens
    ordered = [clue for clue in clues if clue.provider is None and clue.kind != "base"]
    for_it = _for_it(ordered)
    against = [clue for clue in ordered if clue.weight < 0]
    place = _place(clues)
    subject = _subject(clues, provider, weighed.title)
    where = f" in {_article(place.kind)}" if place is not None else ""
    if provider is not None and impact == "public" and risk == RISK_LOW:
        return f"{subject}{where}: public by design, it opens nothing by itself."
    unseen = _UNSEEN if "redacted" in weighed.kinds else ""
    if doubtful and risk == RISK_LOW:
        return (_unlikely(subject, where, for_it, against) + unseen)[:MAX_REASON]
    text = f"{subject}{where}"
    if doubtful:
        text += ", in doubt"
    sound = provider is not None and not any(clue.where == "check" for clue in against)
    if for_it:
        text += f": {_join(for_it[:2])}."
    else:
        text += ", with a well-formed value." if sound else "."
    counter = [clue.says for clue in against if clue.where != "path"]
    if counter:
        text += f" Against it: {counter[0]}."
    text += unseen
    if risk == RISK_LOW:
        text += " Nothing needs to be done beyond cleaning up."
    elif risk == RISK_MEDIUM and (
        MISMADE in weighed.marks or (place is not None and place.kind in SIDE_PLACES)
    ):
        text += " " + _REMEDIES["limited"]
    elif doubtful:
        text += " " + _FIRST_FIND_OUT
    else:
        own = provider.provider.remedy if provider is not None and provider.provider else ""
        text += " " + (own or _REMEDIES[impact])
    return text[:MAX_REASON]


def _for_it(clues: Sequence[Clue]) -> list[str]:
    """What speaks for it, but for places; of names the strongest."""
    said = [
        clue
        for clue in clues
        if clue.weight > 0 and clue.where != "path" and clue.kind != "redacted"
    ]
    names = [clue for clue in said if clue.where == "name"]
    return [clue.says for clue in said if clue not in names[1:]]


def _unlikely(subject: str, where: str, for_it: Sequence[str], against: Sequence[Clue]) -> str:
    first = against[0] if against else None
    about_value = [
        clue for clue in against if clue.kind in _NOT_A_CREDENTIAL and clue.where != "path"
    ]
    if about_value and about_value[0].weight <= -_STRONG:
        leading = about_value[0]
        rest = [clue.says for clue in against if clue.says != leading.says][:1]
        return f"{_NOT_A_CREDENTIAL[leading.kind]}: {_join([leading.says, *rest])}."
    if first is None:
        known = f": {for_it[0]}, and" if for_it else ","
        return f"{subject}{where}{known} too little is known about it to call it real."
    text = f"{subject}{where}, probably not real: {_join([clue.says for clue in against[:2]])}."
    if for_it:
        text += f" For it: {for_it[0]}."
    return text


def _article(kind: str) -> str:
    """A place as it stands after "in"."""
    if kind in ("log", "notebook", "test"):
        return {"log": "a log", "notebook": "a notebook", "test": "test code or data"}[kind]
    if kind.endswith(("file", "dump", "translation", "example", "set-up")):
        return ("an " if kind[0] in "aeiou" else "a ") + kind
    return {"vendored": "bundled code", "generated": "generated code"}.get(kind, kind)
