"""The server on a Ray cluster, for when one machine is outgrown: the same application in replicas, behind Ray Serve.

  pip install 'keras-sae[serve,cluster]'
  serve run export/cluster.yaml             which says where the export is, how many replicas, when to add some

On one machine `python -m export.serve` answers several times as many requests a second: Ray Serve's own proxy and
routing cost more than these models. Every replica polls the export's folder for new versions itself, so all machines
need that folder, at the same path.
"""

from ray import serve

REQUESTS_AT_ONCE = 64  # of one replica: they are computed in batches


def application(arguments):
    """The application for `serve run` and cluster.yaml.

    arguments: dict of "export", the folder that `python -m export` wrote, and "name", of the model ("encoder").
    """
    export, name = arguments["export"], arguments.get("name", "encoder")

    def build():
        from .application import create  # in the replica: the application holds models, and cannot be sent

        app = create(export, name)
        app.state.models.refresh()  # a replica that exists has loaded its model
        return app

    deployment = serve.deployment(serve.ingress(build)(), name="encoder", max_ongoing_requests=REQUESTS_AT_ONCE)
    return deployment.bind()
