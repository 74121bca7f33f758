from .checkpoint import Pair as Pair
from .checkpoint import load as load
from .checkpoint import save as save
from .fit import Step as Step
from .fit import fit as fit
from .options import Adam as Adam
from .options import Training as Training
from .state import State as State
