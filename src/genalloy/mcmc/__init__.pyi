from .buffer import ReplayBuffer as ReplayBuffer
from .hmc import HMC as HMC
from .langevin import Kernel as Kernel
from .langevin import Langevin as Langevin
from .mala import MALA as MALA
