from .diffusion import DDIM as DDIM
from .diffusion import AdamsBashforth as AdamsBashforth
from .diffusion import Ancestral as Ancestral
from .diffusion import ProbabilityFlow as ProbabilityFlow
from .diffusion import Sampler as Sampler
