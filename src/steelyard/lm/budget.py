"""What a run may spend: reserved before a call, settled with what it really used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steelyard.core.errors import CallFailed, InvalidValue
from steelyard.core.results import Usage
from steelyard.lm.line import NEVER, Line

__all__ = ["Budget", "Reservation"]


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a call may use at most, set aside for it; or the sentence that refuses it."""

    tokens: int
    usd: float
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class _Wanted:
    tokens: int
    usd: float


class Budget(Line[_Wanted, Reservation]):
    """Caps on the tokens and the dollars of a run. Safe for many threads and event loops at once.

    A call is refused when what was spent and its own estimate exceed a cap. When it is only the estimates of
    calls under way that stand in between, it waits until they are settled. So however many calls run at once,
    the cap is exceeded by no more than what calls used beyond their estimates.

    Args:
        max_tokens_total: Prompt and completion tokens together; None: no cap.
        max_cost_usd: US dollars; None: no cap.
        spent: What earlier parts of the run spent (a resumed run). Calls answered from recordings cost
            nothing and do not belong here.

    Raises:
        InvalidValue: a cap that is not above 0, or a dollar cap where `spent` has an unknown cost.
    """

    def __init__(
        self,
        *,
        max_tokens_total: int | None = None,
        max_cost_usd: float | None = None,
        spent: Usage | None = None,
    ) -> None:
        super().__init__()
        for name, cap in (("max_tokens_total", max_tokens_total), ("max_cost_usd", max_cost_usd)):
            if cap is not None and not 0 < cap < NEVER:
                raise InvalidValue(f"{name} = {cap}", do="Give a number above 0, or leave it out.")
        spent = spent or Usage()
        if spent.cost_usd is None and max_cost_usd is not None:
            raise InvalidValue(
                "the cost of the run's earlier part is unknown, so max_cost_usd cannot be kept",
                do="Cap it with max_tokens_total instead.",
            )
        self.max_tokens_total, self.max_cost_usd = max_tokens_total, max_cost_usd
        self.tokens, self.usd = spent.input_tokens + spent.output_tokens, spent.cost_usd or 0.0
        self.reserved_tokens, self.reserved_usd = 0, 0.0
        self.refused: str | None = None

    def __repr__(self) -> str:
        return f"Budget({self.sentence()})"

    @property
    def capped(self) -> bool:
        """Whether there is any cap."""
        return self.max_tokens_total is not None or self.max_cost_usd is not None

    def sentence(self) -> str:
        """What was spent of what, for people: `12,000 of 100,000 tokens, $0.12 of $1.00`."""
        tokens = f"{self.tokens:,}"
        tokens += f" of {self.max_tokens_total:,}" if self.max_tokens_total is not None else ""
        usd = f"${self.usd:,.4g}"
        usd += f" of ${self.max_cost_usd:,.4g}" if self.max_cost_usd is not None else ""
        return f"{tokens} tokens, {usd}"

    def to_json(self) -> dict[str, Any]:
        """Caps and what was spent, as a JSON object."""
        return {
            "max_tokens_total": self.max_tokens_total,
            "max_cost_usd": self.max_cost_usd,
            "tokens": self.tokens,
            "cost_usd": self.usd,
        }

    # -- a call ----------------------------------------------------------------------------------------
    def reserve(
        self, tokens: int, usd: float | None, *, deadline: float = NEVER, patient: bool = True
    ) -> Reservation:
        """What the call may use, set aside until `settle`.

        Args:
            tokens: Its estimate, prompt and completion.
            usd: Its estimated price; None where no price is known.
            deadline: Monotonic time after which it does not wait for other calls to settle any more.
            patient: False for a caller who holds another reservation and would wait for himself.

        Raises:
            CallFailed: kind `budget`, or `timeout` at the deadline.
        """
        wanted = _Wanted(tokens, usd or 0.0)
        return self._judged(self.enter(wanted, deadline) if patient else self._now(wanted))

    async def areserve(
        self, tokens: int, usd: float | None, *, deadline: float = NEVER, patient: bool = True
    ) -> Reservation:
        """`reserve`, awaited."""
        wanted = _Wanted(tokens, usd or 0.0)
        return self._judged(await self.aenter(wanted, deadline) if patient else self._now(wanted))

    def settle(
        self, reservation: Reservation | None, tokens: int | None = None, usd: float | None = None
    ) -> None:
        """Put what the call really used in place of its reservation.

        Args:
            reservation: What `reserve` gave.
            tokens: What it used; None: unknown, and then the estimate counts as used.
            usd: What it cost; None likewise.
        """
        if reservation is None:
            return
        with self._lock:
            self._drop(reservation)
            self.tokens += reservation.tokens if tokens is None else tokens
            self.usd += reservation.usd if usd is None else usd
            self._serve()

    def _now(self, wanted: _Wanted) -> Reservation:
        with self._lock:  # past the line: its first may wait for what this caller holds
            return self._take(wanted, 0.0)

    def _judged(self, found: Reservation | None) -> Reservation:
        if found is None:
            raise CallFailed("timeout", "the row's time ended while the budget was held by other calls")
        if found.refused is not None:
            raise CallFailed("budget", found.refused)
        return found

    # -- the line --------------------------------------------------------------------------------------
    def _opens(self, ask: _Wanted, now: float) -> float:
        if self._over(ask, 0, 0.0) or not self._over(ask, self.reserved_tokens, self.reserved_usd):
            return now
        return NEVER

    def _take(self, ask: _Wanted, now: float) -> Reservation:
        if (refused := self._over(ask, self.reserved_tokens, self.reserved_usd)) is not None:
            self.refused = self.refused or refused
            return Reservation(0, 0.0, refused)
        self.reserved_tokens += ask.tokens
        self.reserved_usd += ask.usd
        return Reservation(ask.tokens, ask.usd)

    def _drop(self, ticket: Reservation) -> None:
        self.reserved_tokens -= ticket.tokens
        self.reserved_usd -= ticket.usd

    def _over(self, ask: _Wanted, tokens: int, usd: float) -> str | None:
        cap = self.max_tokens_total
        if cap is not None and self.tokens + tokens + ask.tokens > cap:
            return (
                f"max_tokens_total = {cap:,} would be exceeded: {self.tokens + tokens:,} tokens are spent or "
                f"reserved and this call may need {ask.tokens:,}"
            )
        dollars = self.max_cost_usd
        if dollars is not None and self.usd + usd + ask.usd > dollars:
            return (
                f"max_cost_usd = {dollars:g} would be exceeded: ${self.usd + usd:.6g} are spent or reserved "
                f"and this call may cost ${ask.usd:.6g}"
            )
        return None
