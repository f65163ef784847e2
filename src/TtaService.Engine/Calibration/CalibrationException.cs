namespace TtaService.Engine.Calibration;

/// <summary>A calibration that can't be made or used: cut short, edited, of another model, too few frames. The message says which and what to do.</summary>
public sealed class CalibrationException(string message, Exception? innerException = null) : Exception(message, innerException);
