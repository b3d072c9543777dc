# Mask R-CNN with As-ViT-Small on COCO: 1024 x 1024, large-scale jitter, 36 epochs of 64 images a step.
# Command (tools/ is Detectron2's):
#   python tools/lazyconfig_train_net.py --num-gpus 8 --config-file mask_rcnn_asvit_s_36ep.py
# Heads are ViTDet's: four convolutions with LayerNorm, two in the RPN.
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.modeling import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from asvit_mm.detectron2 import AsViTBackbone, get_asvit_optimizer_params

from ..common.coco_loader_lsj import dataloader

model = model_zoo.get_config('common/models/mask_rcnn_vitdet.py').model
model.backbone = L(FPN)(
    bottom_up=L(AsViTBackbone)(
        arch='small',
        out_features=('res2', 'res3', 'res4', 'res5'),
        # They tile the 1024 pixels of the padded images.
        window_size=(32, 32, 16, 8),
        drop_path_rate=0.2,
    ),
    in_features='${.bottom_up.out_features}',
    out_channels=256,
    norm='LN',
    top_block=L(LastLevelMaxPool)(),
    square_pad=1024,
)

train = model_zoo.get_config('common/train.py').train
train.amp.enabled = True
train.ddp.fp16_compression = True
# A classifier's weights, once there are any: written by tools/model_converters/to_detectron2.py.
train.init_checkpoint = ''
# 36 epochs of 118,000 images; the rate falls after 27 and 33.
train.max_iter = 66375

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01],
        milestones=[49781, 60844],
        num_updates=train.max_iter,
    ),
    warmup_length=250 / train.max_iter,
    warmup_factor=0.001,
)

optimizer = model_zoo.get_config('common/optim.py').AdamW
optimizer.lr = 2e-4
optimizer.weight_decay = 0.05
optimizer.params = L(get_asvit_optimizer_params)(base_lr='${..lr}', layer_decay_rate=0.9)
