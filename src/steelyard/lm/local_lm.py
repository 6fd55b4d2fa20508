"""A GGUF model on this machine as an `LM`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steelyard.core.canonical import digest
from steelyard.core.errors import InvalidValue
from steelyard.lm.grammar import spaced_json
from steelyard.lm.openai_lm import OpenAILM
from steelyard.lm.server import LocalServer, host_of, serve
from steelyard.lm.weights import SMOLLM2, SMOLLM2_DIGEST, WeightsMissing, find_weights, weights_digest

__all__ = ["LocalLM"]


class LocalLM(OpenAILM):
    """A local model, served by llama.cpp in its own process, started by the first live call.

    It answers one call at a time: concurrent slots change temperature-0 answers. Equal models share one
    server.

    Args:
        path_or_name: `smollm2`, or the path of a GGUF file.
        n_ctx: Tokens of prompt and answer together.
        timeout_s: Seconds for one attempt.
        home: Folder for remembered digests and the engine's log; None remembers nothing and logs to the
            temporary folder.

    Raises:
        WeightsMissing: the path names no file. (The weights of `smollm2` are only needed by a live call.)
    """

    _local = True

    def __init__(
        self,
        path_or_name: str = SMOLLM2,
        *,
        n_ctx: int = 4096,
        timeout_s: float = 120.0,
        home: Path | None = None,
    ) -> None:
        if n_ctx < 64:
            raise InvalidValue(f"n_ctx = {n_ctx}", do="Give 64 tokens or more.")
        self.path: Path | None = None
        try:
            self.path = find_weights(path_or_name)
        except WeightsMissing:
            if path_or_name != SMOLLM2:
                raise
        self.weights = (
            weights_digest(self.path, home / "weights.json" if home else None)
            if self.path
            else SMOLLM2_DIGEST
        )
        name = "smollm2-135m" if path_or_name == SMOLLM2 else Path(path_or_name).stem
        identity = digest({"weights": self.weights, "n_ctx": n_ctx, "json": "one-space"})
        server = LocalServer(
            path_or_name, alias=name, n_ctx=n_ctx, log=home / "lm-server.log" if home else None
        )
        self._server = serve(identity, server)
        super().__init__(
            name,
            f"http://{host_of(identity)}/v1",
            "local",
            timeout_s=timeout_s,
            # One retry brings a crashed server back; more would only repeat what crashed it.
            max_retries=1,
            concurrency=1,
        )
        self.digest = identity

    @property
    def server_pid(self) -> int | None:
        """The process that serves now; None while there is none."""
        return self._server.pid

    def require_weights(self) -> None:
        """Nothing, where the weights are here.

        Raises:
            WeightsMissing: they are not; the text says how to get them.
        """
        find_weights(self._server.weights)

    def close(self) -> None:
        """Stop the server; the next live call starts it again."""
        super().close()
        self._server.stop()

    def _arguments(self, request: Any) -> dict[str, Any]:
        # A local server answers to every name, so a prompt that names another model still gets this one.
        return spaced_json(super()._arguments(request)) | {"model": self.name}

    def _cost(self, reply: Any, url: str) -> float | None:
        return 0.0
