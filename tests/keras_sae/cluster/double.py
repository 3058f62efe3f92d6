"""Workers of a cluster in this process, without Ray, which can be told to die at any call."""

import random

import numpy as np

from keras_sae.cluster.actors import ActorDied
from keras_sae.cluster.cluster import Cluster
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
        states = random.getstate(), np.random.get_state()  # a process has random numbers of its own
        try:
            return getattr(worker, method)(*arguments), None
        except Exception as error:
            return None, error
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])

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
    return Cluster(actors=actors, shards=shards, engine=Here(), **options)
