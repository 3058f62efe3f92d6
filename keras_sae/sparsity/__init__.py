"""Methods of sparsity: what makes few units active. Each is a small object for the `sparsity` of an autoencoder."""

from .gated import Gated as Gated
from .jump_relu import JumpReLU as JumpReLU
from .kl import KLSparsity as KLSparsity
from .method import CLASSIC as CLASSIC, Conventions as Conventions, SparsityMethod as SparsityMethod
from .top_k import TopK as TopK
