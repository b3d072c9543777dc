# Progressive tokenization: ends of the phases in epochs, pixels between two tokens in each.
custom_hooks = [
    dict(
        type='asvit_mm.ProgressiveTokenizationHook',
        phases=[dict(end=80, stride=16), dict(end=140, stride=8), dict(end=300, stride=4)],
    )
]
