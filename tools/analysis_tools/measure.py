"""Measure architectures without training them: complexity measures, proxies and costs, as a table."""

import argparse

from asvit_mm.errors import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'archs',
        nargs='*',
        metavar='ARCH',
        help='seed, small, base, large or an architecture string; measured at its depths and width',
    )
    parser.add_argument(
        '--measures',
        nargs='+',
        default=[],
        metavar='NAME',
        help='names of measures, or all (default: length_distortion ntk_condition_number params flops)',
    )
    parser.add_argument('--list', action='store_true', help='print the measures and stop')
    parser.add_argument(
        '--img-size', type=int, help='pixels a side of the images (default: 224; 32 for digits)'
    )
    parser.add_argument(
        '--repeat', type=int, default=5, help='networks to average over (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument(
        '--batch-size', type=int, default=16, help='images of a network (default: %(default)s)'
    )
    parser.add_argument(
        '--data',
        default='noise',
        help='images for the measures that look at some: digits (of scikit-learn), noise, an image '
        'folder or an mmpretrain config (default: %(default)s)',
    )
    parser.add_argument(
        '--device', default='auto', help='cpu, cuda, cuda:1 or auto: cuda if there is one (default)'
    )
    parser.add_argument(
        '--memory',
        type=float,
        metavar='GIB',
        help='GiB that activations may take: what needs more runs in parts (default: no limit)',
    )
    parser.add_argument(
        '--dtype', choices=['float32', 'float64'], default='float32', help='default: %(default)s'
    )
    parser.add_argument('--json', metavar='FILE', help='write settings and scores here')
    return parser.parse_intermixed_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = vars(parse_args())
    with one_line_errors():
        from asvit_mm.runs.measure import MeasureSettings, print_measures, run_measuring

        if args.pop('list'):
            print_measures()
        else:
            run_measuring(MeasureSettings(**args))


if __name__ == '__main__':
    main()
