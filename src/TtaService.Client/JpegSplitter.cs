namespace TtaService.Client;

/// <summary>Cuts a stream of bytes into JPEG images by their markers; a preview within an image's header is part of it.</summary>
internal sealed class JpegSplitter(int maxBytes)
{
    private const byte Marker = 0xff;
    private const byte StartOfImage = 0xd8;
    private const byte EndOfImage = 0xd9;
    private const byte StartOfScan = 0xda;

    private readonly List<byte> _image = [];
    private Place _place;
    private int _left;
    private byte _segment;

    private enum Place
    {
        Outside,
        OutsideMarker,
        Markers,
        MarkerCode,
        LengthHigh,
        LengthLow,
        Segment,
        Scan,
        ScanMarker,
    }

    /// <summary>Takes bytes; gives the images that end in them.</summary>
    /// <exception cref="InvalidDataException">Too long, or no JPEG inside.</exception>
    public List<byte[]> Add(ReadOnlyMemory<byte> bytes)
    {
        var whole = new List<byte[]>();
        foreach (var value in bytes.Span)
        {
            if (_place > Place.OutsideMarker)
            {
                _image.Add(value);
                if (_image.Count > maxBytes)
                {
                    throw Broken($"a JPEG image is longer than {maxBytes} bytes without an end; is this motion JPEG?");
                }
            }

            _place = After(value);
            if (_place == Place.Outside && _image.Count > 0)
            {
                whole.Add([.. _image]);
                _image.Clear();
            }
        }

        return whole;
    }

    /// <exception cref="InvalidDataException">The stream ended within an image.</exception>
    public void End()
    {
        if (_image.Count > 0)
        {
            throw Broken($"the stream ended within a JPEG image, after {_image.Count} of its bytes");
        }
    }

    private Place After(byte value)
    {
        switch (_place)
        {
            case Place.Outside:
                return value == Marker ? Place.OutsideMarker : Place.Outside;
            case Place.OutsideMarker when value == StartOfImage:
                _image.AddRange([Marker, StartOfImage]);
                return Place.Markers;
            case Place.OutsideMarker:
                return value == Marker ? Place.OutsideMarker : Place.Outside;
            case Place.Markers:
                return value == Marker
                    ? Place.MarkerCode
                    : throw Broken($"byte {_image.Count} of a JPEG image is {value:x2} where a marker should begin; is this motion JPEG?");
            case Place.MarkerCode when value == Marker:
                return Place.MarkerCode;
            case Place.MarkerCode when value == EndOfImage:
                return Place.Outside;
            // Without a length: TEM and the restart markers.
            case Place.MarkerCode when value is 0x01 or (>= 0xd0 and <= 0xd7):
                return Place.Markers;
            case Place.MarkerCode:
                _segment = value;
                return Place.LengthHigh;
            case Place.LengthHigh:
                _left = value << 8;
                return Place.LengthLow;
            case Place.LengthLow:
                // The length counts its own two bytes.
                _left += value - 2;
                return _left > 0 ? Place.Segment : AfterSegment();
            case Place.Segment:
                return --_left > 0 ? Place.Segment : AfterSegment();
            case Place.Scan:
                return value == Marker ? Place.ScanMarker : Place.Scan;
            case Place.ScanMarker when value == Marker:
                return Place.ScanMarker;
            // A stuffed byte, or a restart.
            case Place.ScanMarker when value is 0 or (>= 0xd0 and <= 0xd7):
                return Place.Scan;
            case Place.ScanMarker when value == EndOfImage:
                return Place.Outside;
            default:
                _segment = value;
                return Place.LengthHigh;
        }
    }

    private static InvalidDataException Broken(FormattableString why) => new(FormattableString.Invariant(why));

    private Place AfterSegment() => _segment == StartOfScan ? Place.Scan : Place.Markers;
}
