"""An architecture and a data source as ready configs of mmpretrain and mmdet."""
