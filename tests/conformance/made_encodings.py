"""Series that differ in how voxels and texts are stored."""

import shutil
import zlib
from pathlib import Path

import gdcm
import numpy as np
from imagecodecs import htj2k_encode
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from tests.conformance.made_files import AS_MR, Change, Made, content, decoded, setting, stack, write


def _plain(out: Path, change: Change) -> list[Made]:
    made = content(stack())
    write(out, made, change)
    return [made]


def implicit_vr(out: Path) -> list[Made]:
    """Implicit VR Little Endian."""

    def change(ds: Dataset, _: int) -> None:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

    return _plain(out, change)


def big_endian(out: Path) -> list[Made]:
    """Explicit VR Big Endian (retired)."""

    def change(ds: Dataset, _: int) -> None:
        ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian

    return _plain(out, change)


def deflated(out: Path) -> list[Made]:
    """Deflated Explicit VR Little Endian."""

    def change(ds: Dataset, _: int) -> None:
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    return _plain(out, change)


def bare_data_sets(out: Path) -> list[Made]:
    """No preamble and no file meta information, as old exports are: Implicit VR Little Endian."""
    made = content(stack())
    write(out, made)
    for path in list(out.iterdir()):
        ds = dcmread(path)
        del ds.file_meta
        decoded(ds).save_as(path, implicit_vr=True, little_endian=True)
    return [made]


def implicit_under_explicit(out: Path) -> list[Made]:
    """Implicit VR, where the file meta information says Explicit VR."""
    (made,) = implicit_vr(out)
    _relabel(out, ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    return [made]


def explicit_under_implicit(out: Path) -> list[Made]:
    """Explicit VR, where the file meta information says Implicit VR."""
    made = content(stack())
    write(out, made)
    _relabel(out, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    return [made]


def big_endian_under_little(out: Path) -> list[Made]:
    """Explicit VR Big Endian, where the file meta information says Little Endian."""
    (made,) = big_endian(out)
    _relabel(out, ExplicitVRBigEndian, ExplicitVRLittleEndian)
    return [made]


def little_endian_under_big(out: Path) -> list[Made]:
    """The reverse."""
    made = content(stack())
    write(out, made)
    _relabel(out, ExplicitVRLittleEndian, ExplicitVRBigEndian)
    return [made]


def deflated_under_explicit(out: Path) -> list[Made]:
    """Deflated, where the file meta information says Explicit VR Little Endian."""
    (made,) = deflated(out)
    _relabel(out, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian)
    return [made]


def explicit_under_deflated(out: Path) -> list[Made]:
    """The reverse."""
    made = content(stack())
    write(out, made)
    _relabel(out, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    return [made]


def deflated_with_a_zlib_header(out: Path) -> list[Made]:
    """Deflated data with the two bytes before and the sum behind that zlib writes unless told otherwise."""
    (made,) = deflated(out)
    for path in out.iterdir():
        file = path.read_bytes()
        at = 144 + int.from_bytes(file[140:144], "little")
        path.write_bytes(file[:at] + zlib.compress(zlib.decompress(file[at:], -15)))
    return [made]


def compressed_under_native(out: Path) -> list[Made]:
    """JPEG-LS, where the file meta information says Explicit VR Little Endian."""
    (made,) = jpeg_ls(out)
    _relabel(out, JPEGLSLossless, ExplicitVRLittleEndian)
    return [made]


def another_compression(out: Path) -> list[Made]:
    """RLE, where the file meta information says JPEG-LS."""
    (made,) = rle(out)
    _relabel(out, RLELossless, JPEGLSLossless)
    return [made]


def native_of_undefined_length(out: Path) -> list[Made]:
    """Native pixel data whose length is not stated; on every other slice with the delimiter that there would be."""
    made = content(stack())
    write(out, made)
    for number, path in enumerate(sorted(out.iterdir())):
        file, head = path.read_bytes(), b"\xe0\x7f\x10\x00OW\0\0"
        at = file.index(head) + len(head)
        end = b"\xfe\xff\xdd\xe0\0\0\0\0" if number % 2 else b""
        path.write_bytes(file[:at] + b"\xff" * 4 + file[at + 4 :] + end)
    return [made]


def _relabel(folder: Path, old: str, new: str) -> None:
    """Rewrite the transfer syntax in the file meta information, and the length of that."""

    def element(uid: str) -> bytes:
        value = uid.encode() + b"\0" * (len(uid) % 2)
        return b"\2\0\x10\0UI" + len(value).to_bytes(2, "little") + value

    for path in folder.iterdir():
        file = path.read_bytes()
        assert file.count(element(old)) == 1
        length = int.from_bytes(file[140:144], "little") + len(element(new)) - len(element(old))
        path.write_bytes(file[:140] + length.to_bytes(4, "little") + file[144:].replace(element(old), element(new)))


def bytes_after_the_pixels(out: Path) -> list[Made]:
    """A maker's trailer behind PixelData, which is no attribute."""
    made = content(stack())
    write(out, made)
    _append(out, b"\xff\x0f" * 496)
    return [made]


def bytes_after_compressed_pixels(out: Path) -> list[Made]:
    """The same behind RLE Lossless."""
    (made,) = rle(out)
    _append(out, b"\xff\x0f" * 496)
    return [made]


def zeros_after_the_pixels(out: Path) -> list[Made]:
    """Blocks that an archive filled up."""
    made = content(stack())
    write(out, made)
    _append(out, bytes(512))
    return [made]


def _append(folder: Path, trailer: bytes) -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes() + trailer)


def rle(out: Path) -> list[Made]:
    """RLE Lossless."""
    return _plain(out, lambda ds, _: ds.compress(RLELossless, generate_instance_uid=False))


def jpeg_ls(out: Path) -> list[Made]:
    """JPEG-LS Lossless."""
    return _plain(out, lambda ds, _: ds.compress(JPEGLSLossless, generate_instance_uid=False))


def jpeg_2000(out: Path) -> list[Made]:
    """JPEG 2000 Lossless."""
    return _by_gdcm(out, gdcm.TransferSyntax.JPEG2000Lossless)


def jpeg_lossless(out: Path) -> list[Made]:
    """JPEG Lossless, process 14, selection value 1: what CT scanners compress to."""
    return _by_gdcm(out, gdcm.TransferSyntax.JPEGLosslessProcess14_1)


def jpeg_lossless_process_14(out: Path) -> list[Made]:
    """JPEG Lossless, process 14."""
    return _by_gdcm(out, gdcm.TransferSyntax.JPEGLosslessProcess14)


def _by_gdcm(out: Path, syntax: int) -> list[Made]:
    (made,) = twelve_bits_unsigned(out, garbage=0)
    for path in list(out.iterdir()):
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    return [made]


def htj2k(out: Path) -> list[Made]:
    """High-Throughput JPEG 2000 Lossless, written by OpenJPH."""

    def change(ds: Dataset, _: int) -> None:
        ds.PixelRepresentation, ds.RescaleIntercept = 0, "-1024"
        ds.PixelData = encapsulate([htj2k_encode(np.frombuffer(ds.PixelData, "<u2").reshape(32, 40))])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = HTJ2KLossless

    return _plain(out, change)


def _coded(
    out: Path,
    *,
    allocated: int = 16,
    bits: int,
    signed: bool,
    slope: int = 1,
    intercept: int,
    high_bit: int | None = None,
    garbage: int = 0,
    shape: tuple[int, int] = (32, 40),
) -> list[Made]:
    """Values in `bits` bits below and at `high_bit`, and `garbage` in all bits that are not theirs."""
    plain = content(stack(shape=shape))
    stored = np.rint((plain.array.astype(np.float64) - intercept) / slope).astype(np.int64)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    assert low <= stored.min() and stored.max() <= high
    high_bit = bits - 1 if high_bit is None else high_bit
    mask, shift = (1 << bits) - 1, high_bit + 1 - bits
    unused = ((1 << allocated) - 1) & ~(mask << shift)
    noise = np.random.default_rng(8).integers(0, 1 << allocated, stored.shape) if garbage else np.zeros_like(stored)
    coded = ((stored & mask) << shift | noise & unused).astype(f"<u{allocated // 8}")

    def change(ds: Dataset, index: int) -> None:
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, bits, high_bit, int(signed)
        ds.RescaleSlope, ds.RescaleIntercept = str(slope), str(intercept)
        data = coded[index].tobytes()
        ds.PixelData = data + bytes(len(data) % 2)
        ds["PixelData"].VR = "OB" if allocated == 8 else "OW"

    made = Made((stored * slope + intercept).astype(np.float32), plain.geometry, plain.bright)
    write(out, made, change)
    return [made]


def eight_bits_unsigned(out: Path) -> list[Made]:
    """8 bits, 16 HU a step."""
    return _coded(out, allocated=8, bits=8, signed=False, slope=16, intercept=-1000)


def eight_bits_signed(out: Path) -> list[Made]:
    """8 bits with a sign."""
    return _coded(out, allocated=8, bits=8, signed=True, slope=16, intercept=1000)


def odd_number_of_bytes(out: Path) -> list[Made]:
    """31 x 41 pixels of 8 bits: a padding byte at the end."""
    return _coded(out, allocated=8, bits=8, signed=False, slope=16, intercept=-1000, shape=(31, 41))


def twelve_bits_unsigned(out: Path, garbage: int = 1) -> list[Made]:
    """12 of 16 bits, an overlay and other garbage in the upper four."""
    return _coded(out, bits=12, signed=False, intercept=-1024, garbage=garbage)


def twelve_bits_signed(out: Path) -> list[Made]:
    """12 of 16 bits with a sign, the upper four no copy of it."""
    return _coded(out, bits=12, signed=True, intercept=1000, garbage=1)


def twelve_bits_at_the_top(out: Path) -> list[Made]:
    """12 of 16 bits whose HighBit is 15 (PS3.5 section 8.1.1, before 2014), garbage below them."""
    return _coded(out, bits=12, signed=False, intercept=-1024, high_bit=15, garbage=1)


def sixteen_bits_unsigned(out: Path) -> list[Made]:
    """16 bits whose values pass 32767."""
    return _coded(out, bits=16, signed=False, intercept=-34000)


def slope_per_slice(out: Path) -> list[Made]:
    """RescaleSlope and RescaleIntercept differ from slice to slice, as in PET and Philips MR."""
    plain = content(stack())
    slopes = np.array([(1.0, 0.5, 2.0, 1.25, 2.36166)[index % 5] for index in range(14)])[:, None, None]
    intercepts = (-1024.0 - 10 * np.arange(14))[:, None, None]
    stored = np.rint((plain.array - intercepts) / slopes)

    def change(ds: Dataset, index: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = str(slopes[index, 0, 0]), str(intercepts[index, 0, 0])
        ds.PixelData = stored[index].astype("<i2").tobytes()

    made = Made((stored * slopes + intercepts).astype(np.float32), plain.geometry, plain.bright)
    write(out, made, change)
    return [made]


def monochrome1(out: Path) -> list[Made]:
    """MONOCHROME1 is for the screen: the HU are the same."""
    return _plain(out, setting(PhotometricInterpretation="MONOCHROME1"))


def missing_rescale(out: Path) -> list[Made]:
    """No RescaleIntercept and no RescaleSlope: the stored values are taken as HU."""
    return _unscaled(out, setting(RescaleIntercept=None, RescaleSlope=None))


def blank_rescale(out: Path) -> list[Made]:
    """RescaleIntercept and RescaleSlope are there and empty."""
    return _unscaled(out, setting(RescaleIntercept="", RescaleSlope=""))


def mr_without_rescale(out: Path) -> list[Made]:
    """MR images have no rescale as a rule: no reason to warn."""

    def change(ds: Dataset, index: int) -> None:
        AS_MR(ds, index)
        setting(RescaleIntercept=None, RescaleSlope=None)(ds, index)

    return _unscaled(out, change)


def _unscaled(out: Path, rest: Change) -> list[Made]:
    made = content(stack())

    def change(ds: Dataset, index: int) -> None:
        ds.PixelData = made.array[index].astype("<i2").tobytes()
        rest(ds, index)

    write(out, made, change)
    return [made]


def padding_below_air(out: Path) -> list[Made]:
    """Corners beyond the field of view hold a PixelPaddingValue that is far below air, and stay so."""
    return _padded(out, -3024, -3024)


def padding_like_water(out: Path) -> list[Made]:
    """Corners hold PixelPaddingValue 0, which would be water: they become air, a measured 0 in the body does not."""
    return _padded(out, 0, -1024)


def padding_range(out: Path) -> list[Made]:
    """Corners hold values from PixelPaddingRangeLimit to PixelPaddingValue: they become air."""
    return _padded(out, 0, -1024, spread=20)


def padding_range_of_everything(out: Path) -> list[Made]:
    """A PixelPaddingRangeLimit that would make padding of the whole body: PixelPaddingValue alone counts."""

    def change(ds: Dataset, _: int) -> None:
        ds.add_new("PixelPaddingValue", "SS", -2000)
        ds.add_new("PixelPaddingRangeLimit", "SS", 14649)

    return _plain(out, change)


def _padded(out: Path, padding: int, becomes: int, spread: int = 0) -> list[Made]:
    made = content(stack())
    stored = made.array.astype("<i2")
    stored[(stored >= padding) & (stored <= padding + spread)] = padding + spread + 1
    stored[7, 15, 20] = padding
    array = stored.astype(np.float32)
    corner = np.zeros(stored.shape, bool)
    corner[:, :6, :6] = True
    corner[made.bright] = False
    stored[corner] = padding + np.random.default_rng(9).integers(0, spread + 1, int(corner.sum()))
    array[corner] = becomes

    def change(ds: Dataset, index: int) -> None:
        ds.RescaleIntercept = "0"
        ds.add_new("PixelPaddingValue", "SS", padding)
        if spread:
            ds.add_new("PixelPaddingRangeLimit", "SS", padding + spread)
        ds.PixelData = stored[index].tobytes()

    write(out, made, change)
    return [Made(array, made.geometry, made.bright)]


def greek_name(out: Path) -> list[Made]:
    """A patient's name in ISO_IR 126."""
    return _plain(out, setting(SpecificCharacterSet="ISO_IR 126", PatientName="Διονυσίου^Ελένη"))


def japanese_name(out: Path) -> list[Made]:
    r"""A patient's name in \ISO 2022 IR 87."""
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    return _plain(out, setting(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=name))


def broken_character_set(out: Path) -> list[Made]:
    """A character set that does not exist, and a name with bytes beyond ASCII."""
    made = _plain(out, setting(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen"))
    for path in list(out.iterdir()):
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999"))
    return made


def duplicated_instances(out: Path) -> list[Made]:
    """Each file twice, byte for byte: sent again by the PACS."""
    made = _plain(out, setting())
    for path in list(out.iterdir()):
        shutil.copyfile(path, out / f"again-{path.name}")
    return made


def duplicate_with_other_bytes(out: Path) -> list[Made]:
    """One UID came again with other pixels: the first is used."""
    made = _plain(out, setting())
    path = min(out.iterdir())
    ds = dcmread(path)
    ds.PixelData = bytes(len(ds.PixelData))
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(out / f"zz-{path.name}")
    return made
