"""A call as a generator of steps, so that threads and event loops share one course of action."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

from steelyard.lm.budget import Budget
from steelyard.lm.limiter import Limiter

__all__ = ["Enter", "Reserve", "Sleep", "Step", "Steps", "adrive", "drive"]


class Step(Protocol):
    """Something to wait for."""

    def run(self) -> Any:
        """Its result, in a thread."""
        ...

    async def arun(self) -> Any:
        """Its result, in an event loop."""
        ...


Steps = Generator[Step, Any, Any]


@dataclass(frozen=True, slots=True)
class Enter:
    """Wait for a slot; the result is None where the deadline came first."""

    limiter: Limiter
    credential: int
    deadline: float

    def run(self) -> Any:
        """The slot."""
        return self.limiter.enter(self.credential, self.deadline)

    async def arun(self) -> Any:
        """The slot."""
        return await self.limiter.aenter(self.credential, self.deadline)


@dataclass(frozen=True, slots=True)
class Reserve:
    """Wait for money."""

    budget: Budget
    tokens: int
    usd: float
    deadline: float
    patient: bool

    def run(self) -> Any:
        """The reservation."""
        return self.budget.reserve(self.tokens, self.usd, deadline=self.deadline, patient=self.patient)

    async def arun(self) -> Any:
        """The reservation."""
        return await self.budget.areserve(self.tokens, self.usd, deadline=self.deadline, patient=self.patient)


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float

    def run(self) -> None:
        """Nothing."""
        time.sleep(self.seconds)

    async def arun(self) -> None:
        """Nothing."""
        await asyncio.sleep(self.seconds)


def drive(steps: Steps) -> Any:
    """What the steps return, each run in this thread."""
    result, error = None, None
    while True:
        try:
            step = steps.send(result) if error is None else steps.throw(error)
        except StopIteration as end:
            return end.value
        try:
            result, error = step.run(), None
        except BaseException as raised:  # the steps clean up and decide
            result, error = None, raised


async def adrive(steps: Steps) -> Any:
    """`drive`, awaited."""
    result, error = None, None
    while True:
        try:
            step = steps.send(result) if error is None else steps.throw(error)
        except StopIteration as end:
            return end.value
        try:
            result, error = await step.arun(), None
        except BaseException as raised:  # as above
            result, error = None, raised
