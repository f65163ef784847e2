namespace TtaService.Host.Commands.Demo;

/// <summary>What a simulated camera's frames got so far: answered frames, and how many each stream labelled rightly.</summary>
/// <remarks>Written by the camera's task, read by the board.</remarks>
internal sealed class CameraScore(string camera, CameraFeed feed)
{
    private readonly Lock _lock = new();
    private string _domain = feed.Domain;
    private long _frames;
    private long _sourceCorrect;
    private long _adaptedCorrect;

    /// <summary>What the camera sees.</summary>
    public CameraFeed Feed => feed;

    public void Count(string domain, int frames, int sourceCorrect, int adaptedCorrect)
    {
        lock (_lock)
        {
            _domain = domain;
            _frames += frames;
            _sourceCorrect += sourceCorrect;
            _adaptedCorrect += adaptedCorrect;
        }
    }

    public CameraRow Read()
    {
        lock (_lock)
        {
            return new CameraRow(camera, _domain, _frames, Share(_sourceCorrect), Share(_adaptedCorrect));
        }
    }

    private double Share(long correct) => _frames == 0 ? 0 : 100.0 * correct / _frames;
}

/// <summary>A camera at one moment; accuracies in percent.</summary>
internal sealed record CameraRow(string Camera, string Domain, long Frames, double Source, double Adapted)
{
    public double Gain => Adapted - Source;
}
