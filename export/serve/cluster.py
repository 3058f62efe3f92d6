"""The server on a Ray cluster, for when one machine is outgrown: the same application in replicas, behind Ray Serve.

  pip install 'keras-sae[serve,cluster]'
  serve run export/serve/cluster.yaml       which says where the export is, how many replicas, when to add some

On one machine `python -m export.serve` answers several times as many requests a second: Ray Serve's own proxy and
routing cost more than these models. Every replica polls the export's directory for new versions itself, so all machines
need that directory, at the same path.
"""

from ray import serve

REQUESTS_AT_ONCE = 64  # in one replica, which computes them in batches


def application(arguments: dict[str, str]) -> serve.Application:
    """Return the application for `serve run` and cluster.yaml.

    arguments: "export", the directory that `python -m export` wrote, and "name", that of the model ("encoder").
    """
    export, name = arguments["export"], arguments.get("name", "encoder")

    def build():
        from .application import create  # in the replica: the application holds models, and cannot be sent

        app = create(export, name)
        app.state.models.refresh()  # a replica that exists has loaded its model
        return app

    deployment = serve.deployment(serve.ingress(build)(), name="encoder", max_ongoing_requests=REQUESTS_AT_ONCE)
    return deployment.bind()
