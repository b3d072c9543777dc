# Progressive tokenization: ends of the phases in epochs, pixels between two tokens in each.
custom_hooks = [
    dict(
        type='asvit_mm.ProgressiveTokenizationHook',
        phases='80-140',
    )
]
