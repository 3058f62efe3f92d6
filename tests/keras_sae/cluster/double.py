"""Workers of a cluster in this process, without Ray, which can be told to die at any call."""

import keras_sae
from keras_sae.cluster.actors import ActorDied
from keras_sae.cluster.worker import Worker


class Here:
    """An engine whose workers are objects. deaths: {method: how often it kills its worker, from the next call on}."""

    def __init__(self):
        self.deaths, self.started, self.calls, self.closed = {}, 0, [], False

    def room(self):
        return 2

    def start(self, number):
        self.started += number
        return [Worker() for _ in range(number)]

    def call(self, worker, method, *arguments):
        self.calls.append(method)
        return worker, method, arguments

    def result(self, reference):
        worker, method, arguments = reference
        if self.deaths.get(method):
            self.deaths[method] -= 1
            raise ActorDied("The actor died.")
        return getattr(worker, method)(*arguments)

    def share(self, value):
        return value

    def stop(self, worker):
        worker.end()

    def close(self):
        self.closed = True


def cluster(actors=2, **options):
    return keras_sae.Cluster(actors=actors, engine=Here(), **options)
