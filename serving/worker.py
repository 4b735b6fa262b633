"""One of several processes of a server, see :mod:`ctr.serving.processes`."""

from __future__ import annotations

import logging
import threading
from multiprocessing.connection import Connection
from typing import Any

from ctr.serving.models_config import ModelConfig
from ctr.serving.processes import Plan, Siblings


def work(
    plan: Plan, models: tuple[ModelConfig, ...], port: int, rest_port: int | None, line: Connection, late: bool
) -> None:
    """Serves until SIGTERM, or until nobody is above any more.

    Args:
      plan: what was asked for.
      models: what is served now.
      port: of all.
      rest_port: likewise.
      line: to the process above.
      late: whether the others answer already, so that this one listens only when it has its versions.
    """
    # Here, and not above: the process that starts this one imports this module, too.
    from ctr.serving.server import Access, ModelServer, serve_forever

    logging.basicConfig(format="%(asctime)s %(process)d %(message)s", level=logging.WARNING)
    logging.getLogger("ctr.serving").setLevel(plan.log_level)
    options: dict[str, Any] = {**plan.options}
    access = Access(**{**options.pop("access", {}), "rest_port": rest_port, "one_of_several": True})
    server = ModelServer.of_models(models, host=plan.host, port=port, access=access, **options)
    siblings = Siblings(line, server.duties())
    server.join(siblings, plan.may_reload, late)

    def tell() -> None:
        server.wait_until_listening()
        siblings.say("listens")
        server.wait_until_ready(threading.TIMEOUT_MAX)
        siblings.say("ready")

    threading.Thread(target=tell, daemon=True).start()
    serve_forever(server)
