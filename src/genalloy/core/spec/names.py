"""The closed list of what a file may name: genalloy's own modules and values, by public room and name.

A file says "transforms:Coupling", never where the class is written, so that source files may move and saved models stay.
The list is data and is read without importing anything. A test walks the package and compares.

A room is a folder of the package. What was written under another name is read through :data:`FORMER`: when a class is renamed,
its old public name is added.
"""

from __future__ import annotations

MODULES: dict[str, dict[str, str]] = {
    "core": {
        "core.part": "Conditional Embedded Estimated Tempered Unconditional",
        "core.spec.base": "Foreign",
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
    "laws": {
        "laws.invertible": "LayerTransform",
    },
    "mcmc": {
        "mcmc.buffer": "ReplayBuffer",
    },
    "models": {
        "models.analytic": "AnalyticNetwork",
        "models.any_order": "AnyOrder",
        "models.autoregressive": "Autoregressive",
        "models.chain": "Chain",
        "models.deterministic": "Deterministic",
        "models.diffusion": "Diffusion",
        "models.energy": "EnergyModel",
        "models.experts": "ProductOfExperts",
        "models.fitted": "FittedGaussian KernelSmoothed UniformLevels",
        "models.flow": "Flow Preprocessed",
        "models.hybrid": "Hybrid",
        "models.implicit": "Implicit",
        "models.latent": "LatentVariable",
        "models.linear_prediction": "GridLogistic LinearPrediction LinearWindow",
        "models.mixture": "Conditioned Mixture",
        "models.ngram": "NGram",
        "models.product": "Product",
        "models.split": "Split",
        "models.steered": "Classifier Inpainting Steered",
    },
    "networks": {
        "networks.attention": "AttentionNet Blocks GatedAttention GatedConvolution",
        "networks.causal.convolution": "CausalConv2d",
        "networks.causal.gated_pixelcnn": "GatedLayer GatedPixelCNN",
        "networks.causal.made": "MADE MaskedLinear",
        "networks.causal.network": "CausalNet OutputHead Shift",
        "networks.causal.pixel_channels": "LinearLogits SharedMixture",
        "networks.causal.pixel_rnn": "DiagonalBiLSTM RowLSTM",
        "networks.causal.pixelcnn": "MaskedConv MaskedStart ResidualBlock",
        "networks.causal.pixelcnn_plusplus": "PixelCNNPlusPlus PixelCNNPlusPlusBlock Resampling Resolution",
        "networks.causal.pixelsnail": "GatedResidual PixelSNAILAttention PixelSNAILBlock PixelSNAIL",
        "networks.causal.positions": "PositionalEmbedding",
        "networks.causal.recurrent": "Recurrent",
        "networks.causal.transformer": "CausalTransformer TransformerBlock",
        "networks.causal.wavenet": "CausalConvolution WaveNet",
        "networks.concat_squash": "ConcatSquash",
        "networks.convolution": "ConvNet Elements",
        "networks.denoiser": "Conditioning DenoiserMLP LevelEmbedding ModulatedBlock",
        "networks.imputation": "ZeroImputation",
        "networks.labels": "LabelEmbedding",
        "networks.lipschitz": "BoundedConv BoundedLinear LipschitzConv LipschitzMLP",
        "networks.mlp": "Dense MLP ResidualMLP",
        "networks.order_agnostic": "OrderAgnosticAttention OrderAgnosticMLP OrderAgnosticUNet",
        "networks.unet": "ConvBlock GlobalBlock UNet",
    },
    "objectives": {
        "objectives.adversarial": "Adversarial Critic",
        "objectives.bounds": "ELBO ImportanceWeightedBound",
        "objectives.contrastive": "ContrastiveDivergence FitNoise NoiseContrastive",
        "objectives.divergences": "AlphaDivergence ReverseKL",
        "objectives.likelihood": "MaximumLikelihood",
        "objectives.match": "MMD Match MatchMoments",
        "objectives.matching": "FlowMatching JacobianNorm KineticEnergy Reflow",
        "objectives.objective": "Scaled Sum Turn",
        "objectives.reconstruction": "Reconstruction",
        "objectives.records": "OnParts",
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
        "transforms.coupling": "ChannelMask CheckerboardMask Coupling FixedMask",
        "transforms.image": "Haar InvertibleConvolution Shuffle Squeeze",
        "transforms.layer": "Exact Inverse",
        "transforms.linear": "ActNorm PLU Permute Reverse",
        "transforms.observation": "Dequantise Flatten Logit Standardise",
        "transforms.ode": "Continuous",
        "transforms.planar": "Coefficients Planar Radial",
        "transforms.residual": "Residual StochasticResidual",
        "transforms.surjection": "Extend Ordered Positive Reduce Signs Slices Sort",
        "transforms.sylvester": "Sylvester",
        "transforms.tails": "LogTails",
        "transforms.tokens": "Patches ReverseTokens",
    },
}
"""Room -> file below genalloy -> classes derived from nn.Module."""

VALUES: dict[str, dict[str, str]] = {
    "core": {
        "core.observations": "RecordShape",
        "core.schedules": "Cosine Linear",
    },
    "data": {
        "data.energies": "U1 U2 U3 U4",
    },
    "diffusion": {
        "diffusion.parameterisations": "Edm Eps Levels Score V Velocity X0",
        "diffusion.paths": "CosinePath Karras LinearPath SubVariancePreserving VarianceExploding VariancePreserving",
        "diffusion.tabled": "CosineBetas LinearBetas Tabled",
        "diffusion.times": "LogNormalSigma LogisticLambda UniformLambda UniformTime",
        "diffusion.weights": "Likelihood MinSnr Tilted Unit",
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
        "models.any_order": "EveryOrder FixedOrder OneByOne Parallel RandomOrder RandomStep ThisOrder",
        "models.completion": "Enumerated ImportanceResampled",
        "models.diffusion": "ContinuousData DiscretisedData",
        "models.linear_prediction": "EvenGrid MuLawGrid",
        "models.steered": "ClassifierFree",
    },
    "networks": {
        "networks.attention": "AttentionConfig",
        "networks.causal.gated_pixelcnn": "GatedStack",
        "networks.causal.network": "Frames Pixels Singles",
        "networks.causal.pixelcnn_plusplus": "PixelCNNPlusPlusStack",
        "networks.causal.pixelsnail": "PixelSNAILStack",
        "networks.causal.recurrent": "GRU LSTM",
        "networks.causal.sparse_attention": "ColumnAttention DenseAttention FixedAttention LocalAttention LocalBlocks"
        " LocalPatches StridedAttention SummaryAttention",
        "networks.causal.transformer": "Attention",
        "networks.convolution": "Filters",
        "networks.input_embedding": "ClampedInput CompressedInput OneHot ScaledInput",
        "networks.lipschitz": "ConcatenatedLipSwish Elu LipSwish",
        "networks.mlp": "Hidden",
        "networks.order_agnostic": "UNetConfig TrunkConfig",
    },
    "objectives": {
        "objectives.adversarial": "AuxiliaryLabels Consistency GradientPenalty Orthogonality R1 R2 WeightClipping",
        "objectives.bounds": "PerDimension PerGroup PerRow",
        "objectives.matching": "Independent OptimalTransport",
        "objectives.payoffs": "Hinge LeastSquares NonSaturating Relativistic Wasserstein",
        "objectives.sources": "At Beside Data Decode Encode Given Noised Prior Rows Sample Through",
    },
    "recipes": {
        "recipes.composition": "Encoded Labels",
    },
    "samplers": {
        "samplers.ancestral": "Ancestral DDIM",
        "samplers.ode": "AdamsBashforth ProbabilityFlow",
        "samplers.predictor_corrector": "Corrector PredictorCorrector",
        "samplers.sde": "EulerMaruyama",
        "samplers.spacing": "EvenLambda EvenRoot EvenTime",
        "samplers.wrappers": "OnPath",
    },
    "solvers": {
        "solvers.adjoint": "Adjoint Backpropagated Checkpointed",
        "solvers.divergence": "ExactTrace GaussianProbes Hutchinson Rademacher",
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
        "transforms.sylvester": "Householder Orthogonal Triangular",
        "transforms.univariate": "Additive Affine Then",
    },
}
"""Room -> file below genalloy -> frozen dataclasses."""

FORMER: dict[str, str] = {
    "networks:Columns": "networks:ColumnAttention",
    "networks:Fixed": "networks:FixedAttention",
    "networks:GatedConv": "networks:GatedResidual",
    "networks:Local": "networks:LocalAttention",
    "networks:Shrinking": "networks:UNetConfig",
    "networks:Snail": "networks:PixelSNAILStack",
    "networks:SnailAttention": "networks:PixelSNAILAttention",
    "networks:SnailBlock": "networks:PixelSNAILBlock",
    "networks:SnailBlocks": "networks:PixelSNAIL",
    "networks:Streams": "networks:PixelCNNPlusPlusStack",
    "networks:Strided": "networks:StridedAttention",
    "networks:Summaries": "networks:SummaryAttention",
}
"""Public names that were given up since format 3 -> today's public name. Never loses an entry."""


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
    return FORMER.get(name, name)
