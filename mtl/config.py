"""Everything that can change the result of a trial, typed and checked."""

import hashlib
import json
import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mtl.network_fields import RESNETS, TIMM, network_fault

# Upper bounds: far above any real use, and below what would take a machine down before a trial can say why. Whether a
# network within them fits into memory is checked in `mtl.limits`.
LARGEST_STRENGTH = 1e9  # every group is zero long before; the results of the proximal step still fit a float32
LARGEST_RATE = 1e3  # of lr, weighting_lr and weight_decay
LARGEST_SIDE = 16_384  # pixels: of a photograph of 268 megapixels
LARGEST_WIDTH = 4096  # 64 times the published ResNet, 16 times the published DeepLabV3 head
MOST_BLOCKS = 256  # in a stage; the deepest published ResNet, of 1,202 layers, has 200
MOST_RATES = 16
LARGEST_BATCH = 65_536
MOST_EPOCHS = 1_000_000
LARGEST_INTEGER = 2**63 - 1  # that a table's column, and a generator's seed, can hold

Strength = Annotated[float, Field(ge=0, le=LARGEST_STRENGTH, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=LARGEST_RATE, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Target = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]  # share of the dense model's cost
Side = Annotated[int, Field(ge=16, le=LARGEST_SIDE)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
Integer = Annotated[int, Field(strict=True, ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Option = str | bool | Integer | Finite
# inductor: fused kernels by Triton, or C++ on a CPU. cudagraphs: torch's own kernels, launched all at once by CUDA.
Compile = Literal["off", "inductor", "cudagraphs"]
Retraining = Literal["none", "scratch", "fine_tune"]
Compressor = Literal[
    "penalty",
    "penalty_to_target",
    "path",
    "selection",
    "magnitude",
    "random",
    "narrow",
    "shallow",
    "torch_pruning_norm",
    "torch_pruning_taylor",
]
TaskWeightingName = Literal[
    "uncertainty",
    "equal",
    "dwa",
    "gradnorm",
    "rlw",
    "imtl_l",
    "famo",
    "pcgrad",
    "cagrad",
    "nash_mtl",
    "mgda",
    "aligned_mtl",
]
RETRAINED = ("scratch", "fine_tune")  # the kinds of a second training
GROUP_PENALTIES = ("group_lasso", "group_mcp")  # they make whole groups zero
Penalised = Literal["backbone", "all"]
LONGER: Literal["longer"] = "longer"  # without a penalty: one training, as long as the two of a retrained trial
# Of how a trial is trained, chosen and measured. Raise it with every change that gives other numbers for the same
# settings: it is part of a trial's id, so that trials of two methods are never taken for the same.
# 2: the epoch is chosen on metrics once the sparsity has settled, and learned task weights have their own rate.
# 3: channels that are gone leave the network after each epoch, and they go at an even rate.
METHOD_VERSION = 3
# Fields that were added later, and their values in files without them. With these values they are no part of a trial's
# id, so that results of earlier versions keep theirs.
LATER_FIELDS = {
    "method_version": 1,
    "weighting_lr": 0.025,
    "weights_version": "",
    "stage_factors": [1.0, 1.0, 1.0, 1.0],
    "measure_latency": False,
    "retraining": "none",
    "compressor": "penalty",
    "target_macs": 1.0,
    "target_group_sparsity": 0.0,
    "penalised": "backbone",
    "select_from": 0.2,
    "select_until": 0.6,
    "path_epochs": 0,
    "warm_started_from": "",
    "prune_at": 0.5,
    "backbone_options": {},
    "output_stride": None,
    "model": "",
    "head": "deeplabv3",
    "network_version": "",
    "regression_loss": "l1",
    "edge_weight": 0.95,
    "compile": "off",
}

# The fields in which trials of one setup may differ, each with one value for all.
NOT_SETUP = {
    "tasks": ("any",),
    "strength": 0.0,
    "seed": 0,
    "penalty": "group_lasso",
    "retraining": "none",
    "compressor": "penalty",
    "target_macs": 1.0,
    "warm_started_from": "",
    "target_group_sparsity": 0.0,
    "measure_latency": False,
    "resident": False,
}


class TrialSettings(BaseModel):
    """The fields that a recipe and each of its trials share. Descriptions are what `parsimony recipes NAME` prints."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field(
        description="rooms, nyuv2, celebamask_hq, celeba, cityscapes, pascal_context, taskonomy "
        "(`parsimony datasets list`), or my_module:MyDataset for your own class"
    )
    dataset_options: dict[str, Option] = Field(
        {},
        description="options of the dataset: nyuv2 has classes and split; celebamask_hq classes, split_seed and "
        "split_file; cityscapes classes, split and disparity; pascal_context split; taskonomy split_file, split_seed "
        "and edge_threshold; rooms train, val, test, edges and pitch",
    )
    image_size: tuple[Side, Side] = Field(
        description="height and width in pixels to which images and labels are resized; a single number for a square"
    )
    protocol: Literal["standard", "paper", "mtan"] = Field(
        "standard",
        description="standard: the usual metrics at input resolution; paper: the metrics of arXiv 2308.12114, to "
        "compare; mtan: of the usual ones the nine that MTAN and LibMTL report on NYU-v2, to compare",
    )
    augmentation: tuple[Literal["flip", "crop", "scale_crop", "colour"], ...] = Field(
        (),
        description="changes to training images: flip (left to right), crop (a window of 0.6 to 1 of the image, "
        "enlarged), scale_crop (enlarged by 1, 1.2 or 1.5, as LibMTL does; not with crop), colour (brightness, "
        "contrast, saturation and hue)",
    )
    depth_loss: Literal["l1", "mse", "log_rmse", "scale_invariant"] | None = Field(
        None,
        description="l1, mse, log_rmse (root of the mean squared difference of the logarithms, for each image) or "
        "scale_invariant (Eigen et al. 2014: a factor that a whole image shares counts half); left out: l1, or mse in "
        "the paper's protocol",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = Field(
        None,
        description="share of each label of segmentation and classification that is spread evenly over all classes, "
        "0 to less than 1; left out: 0, or 0.1 in the paper's protocol",
    )

    regression_loss: Literal["l1", "mse"] = Field(
        "l1", description="l1 or mse: the error of a regression, absolute or squared, over the task's scale"
    )
    edge_weight: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = Field(
        0.95,
        description="weight in the loss of edges of the pixels on an edge; the others have the rest to 1",
    )

    backbone: str = Field(
        "",
        description=f"the network that all tasks share: {', '.join(RESNETS)} (dilated, output stride 8), timm:NAME for "
        "one of timm's (such as timm:resnet50, timm:mobilenetv3_large_100, timm:efficientnet_b0, timm:convnext_tiny, "
        "timm:regnety_016, timm:vit_tiny_patch16_224), or my_module:MyBackbone for your own class; empty with model",
    )
    backbone_options: dict[str, Option | tuple[Option, ...]] = Field(
        {},
        description="keyword arguments of timm's network or of your own class, such as patch_size or drop_path_rate",
    )
    output_stride: Literal[8, 16, 32] | None = Field(
        None,
        description="of a timm backbone: how many times its map is smaller than the image; left out: 8 where timm "
        "offers it, else the network's own",
    )
    model: str = Field(
        "",
        description="my_module:MyModel for your own class of a whole model, heads included, in place of backbone and "
        "heads; empty: none",
    )
    backbone_width: int = Field(
        64, ge=1, le=LARGEST_WIDTH, description="channels of the backbone's stem; the published ResNets have 64"
    )
    backbone_layers: (
        Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_BLOCKS)], ...], Field(min_length=4, max_length=4)] | None
    ) = Field(None, description="blocks in each of the backbone's four stages; left out: the published numbers")
    weights: str | None = Field(
        None,
        description="pretrained weights of the backbone: the path of a state dict or of a trial's model.pt, the same "
        "on every node, or a torchvision name such as ResNet50_Weights.IMAGENET1K_V2, which is downloaded; left out: "
        "random",
    )
    head: Literal["deeplabv3", "lraspp", "fpn"] = Field(
        "deeplabv3",
        description="head of each dense task: deeplabv3, lraspp (light: two branches of 1 x 1 convolutions), or fpn "
        "(a 3 x 3 convolution on a pyramid of the backbone's maps that all tasks share)",
    )
    head_channels: int = Field(256, ge=1, le=LARGEST_WIDTH, description="channels of the head of each task")
    head_rates: Annotated[
        tuple[Annotated[int, Field(ge=1, le=LARGEST_SIDE)], ...], Field(min_length=1, max_length=MOST_RATES)
    ] = Field((12, 24, 36), description="dilation rates of the pyramid in DeepLabV3's heads")

    penalty: Literal["group_lasso", "group_mcp", "l1"] = Field(
        "group_lasso",
        description="penalty on the convolutions: group_lasso or group_mcp (input channels), or l1 (weights)",
    )
    penalised: Penalised = Field(
        "backbone",
        description="where the penalty is put, and what group_sparsity and parameter_sparsity are of: the convolutions "
        "of the backbone, or all, those of the heads too",
    )
    metric: Literal["adaptive", "euclidean"] = Field(
        "adaptive", description="metric of the proximal step: Adam's own (adaptive), or the plain one (euclidean)"
    )
    stage_factors: tuple[Strength, Strength, Strength, Strength] = Field(
        (1.0, 1.0, 1.0, 1.0),
        description="factors of lambda in the backbone's four stages; the stem has lambda itself. A target "
        "on MACs knows none of these",
    )
    task_weighting: TaskWeightingName = Field(
        "uncertainty",
        description="how the tasks' losses are combined. uncertainty and imtl_l (learned), equal, rlw (drawn anew for "
        "each step), dwa (by how losses fall from epoch to epoch), famo (by how they fall in each step, with another "
        "forward pass) and gradnorm weight the losses; pcgrad, cagrad, nash_mtl, mgda and aligned_mtl combine the "
        "tasks' gradients of the backbone, with a backward pass for each task",
    )

    select_from: Share = Field(
        0.2,
        description="share of the epochs after which selection, magnitude, random and penalty_to_target begin to "
        "remove channels",
    )
    select_until: Share = Field(
        0.6, description="share of the epochs after which they, and path, remove no more, and train what is left"
    )
    path_epochs: int = Field(
        0,
        ge=0,
        le=MOST_EPOCHS,
        description="epochs of each step of a path, from one of targets to the next; 0: a quarter of epochs",
    )

    prune_at: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = Field(
        0.5,
        description="share of the epochs after which torch_pruning_norm and torch_pruning_taylor prune the network",
    )

    lr: Positive = Field(1e-4, description="learning rate; the highest one, where it has a schedule")
    weighting_lr: Positive = Field(
        0.025,
        description="learning rate of task weights that are trained with the network (uncertainty and imtl_l), on the "
        "same schedule",
    )
    lr_schedule: Literal["constant", "one_cycle", "halved"] = Field(
        "constant",
        description="learning rate over the whole training: constant, one_cycle (a short rise to lr, then a long fall) "
        "or halved (lr, and half of it from half of the epochs on)",
    )
    weight_decay: Annotated[float, Field(ge=0, le=LARGEST_RATE, allow_inf_nan=False)] = Field(
        0.0, description="decoupled weight decay (AdamW), on weights but not on biases and norms"
    )
    loss_stride: int = Field(
        1,
        ge=1,
        le=LARGEST_SIDE,
        description="training uses every nth pixel of each row and column for the loss; metrics always use all pixels",
    )
    batch_size: int = Field(16, ge=2, le=LARGEST_BATCH, description="images per step")
    epochs: int = Field(ge=1, le=MOST_EPOCHS, description="the most passes over the training split")
    patience: int = Field(
        0,
        ge=0,
        le=MOST_EPOCHS,
        description="stop after this many epochs without better validation metrics, in which the sparsity moved by "
        "at most a hundredth; 0: never, which one_cycle needs",
    )
    resident: Literal["auto", True, False] = Field(
        "auto",
        description="on CUDA: true keeps the whole dataset in the GPU's memory, once for each trial that runs there; "
        "auto does where a quarter of the memory that is free when the trial starts holds it",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="auto: bfloat16 autocast if gpus_per_trial is above 0, else float32. On a CPU bfloat16 is faster "
        "where the processor multiplies such numbers (AVX512-BF16, AMX)",
    )
    compile: Compile = Field(
        "off",
        description="inductor, or cudagraphs on CUDA: torch.compile makes the network's pass, while no channels go. It "
        "may pay for long trainings on a GPU, takes a minute or more, and changes the last digits of all numbers",
    )
    measure_latency: bool = Field(
        False,
        description="true times each trial's compacted model at its end, for one image: the columns model_latency_ms, "
        "with its heads, and latency_ms, of the backbone alone. Whatever else runs on the machine disturbs it, such as "
        "other trials (with cpus_per_trial = all cores only one trial runs at a time)",
    )

    @field_validator("image_size", mode="before")
    @classmethod
    def _square(cls, value: object) -> object:
        return (value, value) if isinstance(value, int) else value

    @field_validator("augmentation")
    @classmethod
    def _cropped_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if {"crop", "scale_crop"} <= set(value):
            raise ValueError(f"{list(value)}; allowed: crop or scale_crop, not both")
        return value

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        if fault := network_fault(self):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _selects_before_it_ends(self) -> Self:
        if not self.select_from < self.select_until:
            raise ValueError(
                f"select_from = {self.select_from:g} and select_until = {self.select_until:g}; allowed: the first less "
                "than the second"
            )
        return self

    @property
    def network(self) -> str:
        """The name of the backbone, or of the whole model."""
        return self.model or self.backbone

    @property
    def own_network(self) -> bool:
        """Whether a class of the user's own makes the network."""
        return ":" in self.network and not self.network.startswith(TIMM)


class TrialConfig(TrialSettings):
    """One trial. Its `trial_id` is a hash of all fields, so that a trial is the same wherever and whenever it runs.

    Pretrained weights count by their content, `weights_version`, and not by their path. The precision is that at which
    the trial runs; only files of the first method have "auto".
    """

    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    method_version: int = Field(METHOD_VERSION, ge=1)
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    strength: Strength
    seed: Seed
    data_version: str = Field(description="fingerprint of the dataset: other data, another trial")
    weights_version: str = Field("", description="fingerprint of the pretrained weights; empty where there are none")
    network_version: str = Field("", description="fingerprint of the code of a network of your own; else empty")
    retraining: Retraining | Literal["longer"] = "none"
    compressor: Compressor = "penalty"
    target_macs: Target = 1.0
    warm_started_from: str = Field("", description="trial_id of the trial whose model this trial starts from")
    target_group_sparsity: Share = 0.0  # 0: none

    @model_validator(mode="after")
    def _distinct_tasks(self) -> Self:
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks {list(self.tasks)}; allowed: each task once")
        if self.compressor == "penalty" and self.target_macs < 1:
            raise ValueError(f"target_macs = {self.target_macs:g} with a penalty, whose strength decides the cost")
        if self.compressor != "penalty" and (self.strength or self.retraining != "none"):
            raise ValueError(f"compressor {self.compressor} with a penalty or a second training; allowed: neither")
        if (self.compressor == "path") != bool(self.warm_started_from):
            raise ValueError(
                f"warm_started_from = {self.warm_started_from!r} with compressor {self.compressor}; allowed: a trial's "
                "id with path, and none without"
            )
        if self.target_group_sparsity and (self.compressor != "penalty_to_target" or self.target_macs < 1):
            raise ValueError(
                f"target_group_sparsity = {self.target_group_sparsity:g} with compressor {self.compressor} and "
                f"target_macs = {self.target_macs:g}; allowed: with penalty_to_target, and without target_macs"
            )
        if self.penalised == "all" and self.retraining not in ("none", LONGER):
            raise ValueError(f"penalised = all with retraining = {self.retraining}; allowed: penalised = backbone")
        if self.compressor == "penalty_to_target" and self.penalty not in GROUP_PENALTIES:
            raise ValueError(
                f"penalty = {self.penalty} with compressor penalty_to_target; allowed: {', '.join(GROUP_PENALTIES)}"
            )
        return self

    @classmethod
    def recorded(cls, fields: object) -> object:
        """A trial's fields as a file has them, to be validated: files of the first method do not name it."""
        return {"method_version": 1, **fields} if isinstance(fields, dict) else fields

    @property
    def trial_id(self) -> str:
        """16 hexadecimal digits."""
        fields = self.model_dump(mode="json", exclude={"weights"})
        for name, before in LATER_FIELDS.items():
            if fields[name] == before:
                del fields[name]
        fields["resident"] = fields["resident"] is True  # "auto" came later, and neither changes any number
        text = json.dumps(fields, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def setup_id(self) -> str:
        """The same for trials that differ only in tasks, λ, seed, penalty, retraining, compressor and target, which the
        results name, or in what changes no metric. The analysis averages trials of one setup over seeds, across sweeps.
        """
        return self.model_copy(update=NOT_SETUP).trial_id

    def __str__(self) -> str:
        return f"{self.trial_id} {self.label}"

    @property
    def label(self) -> str:
        """In what it differs from the other trials of its recipe."""
        if self.compressor != "penalty":
            sparsity = f"target_group_sparsity={self.target_group_sparsity:g}"
            target = sparsity if self.target_group_sparsity else f"target_macs={self.target_macs:g}"
            return f"{self.combination} {self.compressor} {target} seed={self.seed}"
        retraining = "" if self.retraining == "none" else f" retraining={self.retraining}"
        return f"{self.combination} lambda={self.strength:g} seed={self.seed}{retraining}"

    def stage_factor(self, parameter: str) -> float:
        """The factor of lambda for a convolution of this name, such as backbone.layer1.0.conv1.weight."""
        stages = (stage for stage in range(4) if parameter.startswith(f"backbone.layer{stage + 1}."))
        return next((self.stage_factors[stage] for stage in stages), 1.0)

    @property
    def dense(self) -> bool:
        """Whether nothing makes the model smaller."""
        return self.strength == 0 and self.compressor == "penalty"

    @property
    def total_epochs(self) -> int:
        """The most epochs, with those of a second training; without those of the trial that this one starts from."""
        if self.compressor == "path":
            return self.path_epochs or math.ceil(self.epochs / 4)
        return self.epochs if self.retraining == "none" else 2 * self.epochs

    @property
    def retrained(self) -> bool:
        """Whether there is a second training."""
        return self.retraining not in ("none", LONGER)

    @property
    def epochs_a_training(self) -> int:
        """The most epochs of the first training, and of a second one."""
        return self.epochs if self.retrained else self.total_epochs

    @property
    def combination(self) -> str:
        """The tasks' names joined by +, as the results name them."""
        return "+".join(self.tasks)
