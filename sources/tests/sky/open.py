"""Opens cutouts with astropy, warnings being errors.

open.py FOLDER: files whose names begin with ztf or lsst. Prints how many there were; 77: no astropy.
"""
import gzip, io, pathlib, sys, warnings
try:
    import numpy
    from astropy.io import fits
except ImportError as error:
    print(error)
    sys.exit(77)
warnings.simplefilter("error")
seen = 0
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    ztf = path.name.startswith("ztf")
    with fits.open(io.BytesIO(gzip.decompress(data) if ztf else data)) as file:
        file.verify("exception")
        assert len(file) == (1 if ztf else 3)
        side = 63 if ztf else 30
        assert file[0].data.shape == (side, side) and file[0].data.dtype == ">f4", file[0].data.shape
        assert numpy.isfinite(file[0].data).all()
        if not ztf:
            assert file[1].name == "UNCERT" and file[1].data.shape == (30, 30)
            assert file[2].name == "PSFIMAGE" and file[2].data.shape == (41, 41) and abs(file[2].data.sum() - 1) < 1e-5
            from astropy.wcs import WCS
            place = WCS(file[0].header).all_world2pix([[file[0].header["CRVAL1"], file[0].header["CRVAL2"]]], 0)[0]
            assert abs(place - side // 2).max() < 1, place
    seen += 1
print(seen)
