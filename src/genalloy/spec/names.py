"""The closed list of what a file may name: genalloy's own modules and values, by public room and name.

A file says "transforms:Coupling", never where the class is written, so that source files may move and saved models stay.
The list is data and is read without importing anything. A test walks the package and compares.

A room is a folder of the package; `part`, `spec` and `schedules` are of the room "core", `paths` of "diffusion". A name is the
class's, "Public=Class" where two classes of a room share theirs. What was written under another name (format 1 wrote the file
that defines the class) is read through :data:`FORMER`, which never loses an entry: when a class moves, its old place is added.
"""

from __future__ import annotations

MODULES: dict[str, dict[str, str]] = {
    "core": {
        "part": "Embedded Estimated From Tempered Unconditional",
        "spec.base": "Foreign",
    },
    "evaluation": {
        "evaluation.classifier": "Body",
        "evaluation.features": "UnitGaussian",
        "evaluation.latent": "RowGaussians",
    },
    "heads": {
        "heads.audio": "MuLaw",
        "heads.discrete": "Bernoulli Categorical LogisticMixture",
        "heads.filtered": "Filtered",
        "heads.gaussian": "Gaussian StandardNormal",
        "heads.logistic": "ContinuousLogisticMixture Logistic",
        "heads.mixture": "GaussianMixture",
        "heads.student": "StudentT",
        "heads.unit": "Beta Kumaraswamy LogitNormal",
    },
    "mcmc": {
        "mcmc.buffer": "ReplayBuffer",
    },
    "models": {
        "models.analytic": "AnalyticNetwork",
        "models.any_order": "AnyOrder",
        "models.autoregressive": "Autoregressive",
        "models.diffusion": "Diffusion",
        "models.energy": "EnergyModel",
        "models.fitted": "FittedGaussian Memory UniformLevels",
        "models.flow": "Flow Preprocessed",
        "models.hybrid": "Hybrid",
        "models.implicit": "Implicit",
        "models.latent": "LatentVariable",
        "models.linear_prediction": "GridLogistic LinearPrediction LinearWindow",
        "models.mixture": "Given Mixture",
        "models.ngram": "NGram",
        "models.split": "Split",
    },
    "networks": {
        "networks.absorbing": "AbsorbingAttention AbsorbingMLP AbsorbingUNet",
        "networks.attention": "AttentionNet Blocks GatedAttention GatedConvolution",
        "networks.causal": "CausalNet Leave Shift",
        "networks.channels": "LinearLogits SharedMixture",
        "networks.convolution": "ConvNet Elements",
        "networks.critic": "ResidualCritic=ResidualMLP",
        "networks.denoiser": "Conditioning LevelEmbedding ModulatedBlock ResidualMLP",
        "networks.dense": "Dense",
        "networks.dilated": "CausalConvolution WaveNet",
        "networks.labels": "LabelEmbedding",
        "networks.lipschitz": "BoundedConv BoundedLinear LipschitzConv LipschitzMLP",
        "networks.masked": "MADE MaskedLinear",
        "networks.mlp": "MLP",
        "networks.pixel": "CausalConv GatedLayer GatedPixelCNN",
        "networks.pixel_rnn": "DiagonalBiLSTM RowLSTM",
        "networks.places": "Places",
        "networks.plain_pixel": "MaskedConv MaskedStart ResidualBlock",
        "networks.plusplus": "Half Inside Level PixelCNNPlusPlus PixelCNNPlusPlusBlock=Block",
        "networks.recurrent": "Recurrent",
        "networks.snail": "GatedConv SnailAttention SnailBlock SnailBlocks",
        "networks.squash": "Squash",
        "networks.transformer": "CausalTransformer TransformerBlock=Block",
        "networks.unet": "ConvBlock GlobalBlock UNet",
    },
    "objectives": {
        "objectives.adversarial": "Adversarial Critic",
        "objectives.bounds": "ELBO ImportanceWeightedBound",
        "objectives.contrastive": "ContrastiveDivergence FitNoise NoiseContrastive",
        "objectives.divergences": "AlphaDivergence ReverseKL",
        "objectives.likelihood": "MaximumLikelihood",
        "objectives.matching": "FlowMatching JacobianNorm KineticEnergy Reflow",
        "objectives.objective": "Scaled Sum Turn WithTurn",
        "objectives.reconstruction": "Reconstruction",
        "objectives.score": "DenoisingScoreMatching",
    },
    "recipes": {
        "recipes.composition": "Composition Phase",
    },
    "training": {
        "training.checkpoint": "Pair",
    },
    "transforms": {
        "transforms.autoregressive": "AutoregressiveTransform",
        "transforms.coupling": "ByBoard ByChannel ByMask Coupling",
        "transforms.image": "Haar InvertibleConvolution Shuffle Squeeze",
        "transforms.layer": "Exact Inverse",
        "transforms.linear": "ActNorm PLU Permute Reverse",
        "transforms.observation": "Affine Dequantise Flatten Logit",
        "transforms.ode": "Continuous",
        "transforms.planar": "Coefficients Planar Radial",
        "transforms.residual": "Residual StochasticResidual",
        "transforms.stack": "Stack",
        "transforms.surjection": "Extend Order Ordered Positive Reduce Signs Slices",
        "transforms.sylvester": "Sylvester",
        "transforms.tails": "LogTails",
        "transforms.tokens": "Patches ReverseTokens",
    },
}
"""Room -> file below genalloy -> classes derived from nn.Module."""

VALUES: dict[str, dict[str, str]] = {
    "core": {
        "schedules": "Cosine Linear",
    },
    "data": {
        "data.energies": "Energy U1 U2 U3 U4",
    },
    "diffusion": {
        "paths": (
            "Cosine Edm Eps Karras Levels Likelihood Linear LogNormalSigma LogisticLambda MinSnr Score"
            " SubVariancePreserving Tilted UniformLambda UniformTime Unit V VarianceExploding VariancePreserving Velocity X0"
        ),
    },
    "estimators": {
        "estimators.annealed_importance": "AnnealedImportance FromPosterior FromPrior",
        "estimators.importance_weighted": "ImportanceWeighted",
        "estimators.probability_flow": "ProbabilityFlowLikelihood",
        "estimators.variational_bound": "VariationalBound",
    },
    "evaluation": {
        "evaluation.robustness": "L2 LInfinity PGD",
    },
    "experiments": {
        "experiments.diffusion": "SampledWith",
        "experiments.families": "BoundWith",
        "experiments.theis": "Memorised MixedWithNoise",
        "experiments.verdict": "AllOf Better Between",
    },
    "heads": {
        "heads.filtered": "Temperature TopK TopP",
    },
    "mcmc": {
        "mcmc.hmc": "HMC",
        "mcmc.langevin": "Langevin",
        "mcmc.mala": "MALA",
    },
    "models": {
        "models.any_order": "Ancestral EveryOrder FixedOrder Parallel RandomOrder RandomStep ThisOrder",
        "models.completion": "Enumerated ImportanceResampled",
        "models.diffusion": "Grid Real",
        "models.linear_prediction": "EvenGrid MuLawGrid",
    },
    "networks": {
        "networks.absorbing": "Shrinking Trunk",
        "networks.attention": "Attentive",
        "networks.causal": "Frames Pixels Singles",
        "networks.convolution": "Filters",
        "networks.entry": "Clamped Compressed OneHot Scaled",
        "networks.lipschitz": "ConcatenatedLipSwish Elu LipSwish",
        "networks.masked": "Hidden",
        "networks.patterns": "Columns DenseAttention=Dense Fixed Local LocalBlocks LocalPatches Strided Summaries",
        "networks.pixel": "Stack",
        "networks.plusplus": "Streams",
        "networks.recurrent": "GRU LSTM",
        "networks.snail": "Snail",
        "networks.transformer": "Attention",
    },
    "objectives": {
        "objectives.adversarial": "GradientPenalty R1 R2",
        "objectives.matching": "Independent OptimalTransport",
        "objectives.payoffs": "Hinge LeastSquares NonSaturating Relativistic Wasserstein",
        "objectives.ports": "At Data Encode Prior Sample",
    },
    "recipes": {
        "recipes.composition": "Encoded Labels",
    },
    "samplers": {
        "samplers.diffusion": "AdamsBashforth Ancestral DDIM ProbabilityFlow",
    },
    "solvers": {
        "solvers.adjoint": "Adjoint Backpropagated Checkpointed",
        "solvers.divergence": "ExactTrace Gaussian Hutchinson Rademacher",
        "solvers.fixed_point": "FixedPoint",
        "solvers.ode": "Adaptive Euler Heun RungeKutta4 Steps",
        "solvers.roots": "Bracketed",
    },
    "training": {
        "training.options": "Adam Training",
    },
    "transforms": {
        "transforms.residual": "ExactLogDet Roulette Truncated",
        "transforms.sigmoidal": "DeepSigmoid",
        "transforms.spline": "RationalQuadratic",
        "transforms.stack": "Checkpoint Invert Store",
        "transforms.sylvester": "Householder Orthogonal Triangular",
        "transforms.univariate": "Additive AffineMap=Affine Then",
    },
}
"""Room -> file below genalloy -> frozen dataclasses."""

FORMER: dict[str, str] = {"genalloy.spec:Foreign": "core:Foreign"}
"""Names of earlier versions, "module:Class" as format 1 wrote it or a public name that was given up -> today's public name."""


def _places(table: dict[str, dict[str, str]]) -> dict[str, str]:
    """{"room:Public": "genalloy.file:Class"}."""
    rows = [(room, file, name) for room, files in table.items() for file, names in files.items() for name in names.split()]
    return {f"{room}:{name.partition('=')[0]}": f"genalloy.{file}:{name.rpartition('=')[2]}" for room, file, name in rows}


MODULE_PLACES, VALUE_PLACES = _places(MODULES), _places(VALUES)
"""Public name -> "module:Class"."""
PUBLIC = {place: name for name, place in (MODULE_PLACES | VALUE_PLACES).items()}
""""module:Class" -> public name."""


def current(name: str) -> str:
    """Today's public name of a class that an earlier version stored; any other name as it is."""
    return FORMER.get(name, PUBLIC.get(name, name))
