# Mask R-CNN with As-ViT-Base on COCO, trained as the small one.
from .mask_rcnn_asvit_s_36ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.arch = 'base'
model.backbone.bottom_up.drop_path_rate = 0.3
