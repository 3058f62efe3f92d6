"""Workers of a cluster in this process, without Ray, which can be told to die at any call."""

import keras_sae
from keras_sae.cluster.actors import ActorDied
from keras_sae.cluster.worker import Worker


class Here:
    """An engine whose workers are objects. deaths: {method: how many of the next calls kill their worker}."""

    def __init__(self, worker=Worker):
        self.worker = worker
        self.deaths, self.started, self.calls, self.closed = {}, 0, [], False

    def room(self):
        return 2

    def start(self, number):
        self.started += number
        return [self.worker() for _ in range(number)]

    def call(self, worker, method, *arguments):
        self.calls.append(method)
        if self.deaths.get(method):
            self.deaths[method] -= 1
            return None, ActorDied("The actor died.")
        try:
            return getattr(worker, method)(*arguments), None
        except Exception as error:
            return None, error

    def result(self, reference):
        found, error = reference
        if error is not None:
            raise error
        return found

    def share(self, value):
        return value

    def stop(self, worker):
        pass

    def close(self):
        self.closed = True


def cluster(actors=2, shards=2, **options):
    return keras_sae.Cluster(actors=actors, shards=shards, engine=Here(), **options)
