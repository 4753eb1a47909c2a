"""The Dask scheduler that a run uses: one that is there, or one on this machine that nobody else can reach."""

import asyncio
import contextlib
import logging

from distributed import Client, LocalCluster, Security

from kpn_tf.denoiser.devices import physical_cores

LOCAL = "local"

_HERE = "127.0.0.1"

# A cluster that is being started beside the client has its first worker by then.
_PATIENCE_S = 60


@contextlib.contextmanager
def connected(address, threads):
    """Connects to a scheduler.

    Args:
        address: `"local"` for workers of this machine, one for each core or for each `threads` of them; or
            `"tcp://HOST:PORT"`.
        threads: Threads that the network has in each worker.

    Yields:
        A `distributed.Client` with one worker or more.

    Raises:
        OSError: If there is no scheduler, or it has no worker.
    """
    with contextlib.ExitStack() as stack:
        if address == LOCAL:
            # Whoever reaches a scheduler can run code as its user: other users of this machine are kept out by TLS with
            # a certificate that only this process knows, other machines by the address. A port of its own: two runs
            # can live side by side.
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=max(1, physical_cores() // threads),
                    threads_per_worker=1,
                    host=_HERE,
                    dashboard_address=f"{_HERE}:0",
                    worker_dashboard_address=f"{_HERE}:0",
                    security=Security.temporary(),
                    # Memory does not grow with a series: nothing to put on disk, no worker to end.
                    memory_limit=None,
                    # Ctrl-C reaches every process of a terminal: the client alone answers.
                    preload="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
                    silence_logs=logging.CRITICAL,
                )
            )
            stack.callback(cluster.sync, _end_workers, cluster)
            yield stack.enter_context(Client(cluster))
        else:
            yield stack.enter_context(_client(address))


async def _end_workers(cluster):
    await asyncio.gather(*map(_end_worker, cluster.workers.values()))


async def _end_worker(nanny):
    closing = asyncio.create_task(nanny.close())
    await asyncio.sleep(0)
    # From here on nobody starts it again. Asked to close, it would for seconds finish what nobody waits for any more.
    with contextlib.suppress(AttributeError, ValueError):  # It has not begun, or has ended.
        await nanny.process.process.kill()
    await closing


def _client(address):
    # That a scheduler is lost is told in one sentence, not in Dask's traceback.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=_PATIENCE_S)
    except OSError:
        raise OSError(
            f"Expected a Dask scheduler at {address}. Received: no answer within {_PATIENCE_S} s; start one with: "
            "dask scheduler"
        ) from None
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_S)
    except TimeoutError:
        client.close()
        raise OSError(
            f"Expected a worker at {address}. Received: none within {_PATIENCE_S} s; start some with: "
            f"dask worker {address} --nthreads 1 --nworkers CORES"
        ) from None
    return client
