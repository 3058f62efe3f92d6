"""Methods of sparsity: what makes few units active. Each is a small object for the `sparsity` of an autoencoder."""

from .aux_k import AuxK as AuxK
from .batch_top_k import BatchTopK as BatchTopK
from .contractive import Contractive as Contractive
from .gated import Gated as Gated
from .jump_relu import JumpReLU as JumpReLU
from .kl import KLSparsity as KLSparsity
from .l1 import L1 as L1
from .matryoshka import MatryoshkaBatchTopK as MatryoshkaBatchTopK
from .method import CLASSIC as CLASSIC, Conventions as Conventions, SparsityMethod as SparsityMethod
from .top_k import TopK as TopK
from .winner_take_all import WinnerTakeAll as WinnerTakeAll
