"""What the store costs: register, move an alias, add evidence, load by alias; SQLite, PostgreSQL, server.

Each round does each operation once on each store, so that a busy machine is busy for all of them. The peer
is MLflow's own call for the same thing on the same SQLite store. Medians with quartiles, ms.
"""

import os
import statistics
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
warnings.simplefilter("ignore")

from steelyard.core.canonical import digest  # noqa: E402
from steelyard.core.settings import load_settings  # noqa: E402
from steelyard.store import open_store  # noqa: E402
from steelyard.testing.store_parts import bundle, evidence_of, move, run_of  # noqa: E402
from steelyard.testing.store_servers import Bucket, MlflowServer, Postgres  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "15"))


def timed(into, key, call):
    began = time.perf_counter()
    out = call()
    into.setdefault(key, []).append(1000 * (time.perf_counter() - began))
    return out


def operations(store, place, number, into, label):
    content = {"template": f"Answer {{{{ question }}}} in {number} words. " * 20}
    d = digest(content)
    timed(into, (label, "register"), lambda: store.register("prompt", "p", digest=d, content=content))
    timed(into, (label, "register again"), lambda: store.register("prompt", "p", digest=d, content=content))
    before = store.aliases("prompt", "p").get("production")
    timed(into, (label, "move alias"), lambda: store.move_alias(move("p", before, d, action="promote")))
    timed(
        into,
        (label, "load by alias"),
        lambda: store.version("prompt", "p", store.aliases("prompt", "p")["production"]),
    )
    info = evidence_of(name="p", metrics={f"m{i}": i / 7 for i in range(5)})
    timed(into, (label, "add evidence"), lambda: store.add_evidence(info, place, run_of(metrics={"m": 0.5})))


def mlflow_s_own(client, number, into):
    text = f"Answer {{{{ question }}}} in {number} words. " * 20
    timed(into, ("MLflow", "register"), lambda: client.register_prompt("theirs", text))
    timed(into, ("MLflow", "move alias"), lambda: client.set_prompt_alias("theirs", "production", number + 1))
    timed(
        into,
        ("MLflow", "load by alias"),
        lambda: client.get_prompt_version_by_alias("theirs", "production"),
    )


def main():
    into = {}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("sqlite", "postgres", "server", "s3"):
            (root / name).mkdir()
        postgres, bucket = stack.enter_context(Postgres()), stack.enter_context(Bucket(root / "s3"))
        os.environ.update(bucket.env)
        server = MlflowServer(postgres.database(), f"{bucket.uri}/served", root / "server", env=bucket.env)
        stack.enter_context(server)
        stores = {}
        for label, uri, artifacts in (
            ("SQLite", None, None),
            ("PostgreSQL + S3", postgres.database(), f"{bucket.uri}/direct"),
            ("server + PostgreSQL + S3", server.uri, None),
        ):
            home = root / label.split()[0].lower()
            home.mkdir(exist_ok=True)
            settings = load_settings(home, environ={}, tracking_uri=uri, artifact_uri=artifacts)
            stores[label] = timed(into, (label, "first open"), lambda settings=settings: open_store(settings))
        place = bundle(root / "bundle")
        from mlflow import MlflowClient

        local = f"sqlite:///{root / 'sqlite' / '.steelyard' / 'store' / 'mlflow.db'}"
        theirs = MlflowClient(tracking_uri=local, registry_uri=local)
        for number in range(ROUNDS):
            order = list(stores.items())
            for label, store in order if number % 2 else reversed(order):
                operations(store, place, number, into, label)
            mlflow_s_own(theirs, number, into)
        for store in stores.values():
            store.close()
    for (label, what), values in sorted(into.items(), key=lambda x: (x[0][1], x[0][0])):
        if len(values) < 3:
            print(f"{what:<16} {label:<26} {values[0]:9.0f} ms")
            continue
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{what:<16} {label:<26} {middle:9.1f} ms  ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
