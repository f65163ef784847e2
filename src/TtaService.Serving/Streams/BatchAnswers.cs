using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>Makes the outcomes of a pass, and shows the streams' watches what the model answered.</summary>
internal sealed class BatchAnswers(AnswerWriter writer, AnswerReader reader, StepDefects defects, TtaMetrics metrics, TimeProvider clock)
{
    /// <summary>An outcome a step of each entry. Does not throw: what was committed and can't be answered becomes a lost answer in the results.</summary>
    public StepOutcome[][] Outcomes(List<BatchEntry> batch, EntryResult[] results, BatchPass pass)
    {
        var frames = batch.Sum(entry => entry.Block.Count);
        var outcomes = new StepOutcome[batch.Count][];
        for (var i = 0; i < batch.Count; i++)
        {
            try
            {
                outcomes[i] = results[i].Result is { } result ? Outcomes(batch[i], result, pass, frames) : batch[i].Fail(results[i].Lost?.Failure ?? results[i].Failure!);
            }
            catch (Exception defect)
            {
                var failure = defects.Explain(defect);
                if (results[i].Result is { Status: StepStatus.Ok } committed)
                {
                    results[i] = new EntryResult(new LostAnswer(committed.Steps, committed.Frames, failure));
                }

                outcomes[i] = batch[i].Fail(results[i].Lost?.Failure ?? failure);
            }
        }

        return outcomes;
    }

    private StepOutcome[] Outcomes(BatchEntry entry, StepResult result, BatchPass pass, int batchFrames)
    {
        if (result.Status != StepStatus.Ok)
        {
            var told = result.Message ?? "the step was refused";
            return entry.Fail(result.Status switch
            {
                StepStatus.MethodFailed => new Failure(FailureKind.Internal, "METHOD_FAILED", told),
                StepStatus.NotFinite => Failure.Invalid("NOT_FINITE", "step.frames", told),
                _ => Failure.Invalid("STEP_REFUSED", "step.frames", told),
            });
        }

        entry.Session.Model.Commissioning.Offer(entry);
        var read = reader.Reads ? reader.Of(result.Outputs, entry.Block.Width, entry.Block.Height) : null;
        if (entry.Session.Model.Drift.Watches)
        {
            Watch(entry, result, read);
        }

        var outcomes = new StepOutcome[entry.Steps.Count];
        var firstFrame = 0;
        for (var i = 0; i < outcomes.Length; i++)
        {
            var step = entry.Steps[i];
            var times = new StepTimes(step.DecodeTime, pass.QueueTime(step, clock), pass.Run, batchFrames);
            var found = Found(step, read, firstFrame);
            outcomes[i] = writer.Write(entry.Session, result, firstFrame, step.Submission.Frames, step.Submission.Content, found, times, entry.Steps.Count);
            firstFrame += step.Submission.Frames;
        }

        return outcomes;
    }

    private static FrameAnswer[] Found(QueuedStep step, AnswerReader.Step? read, int firstFrame)
    {
        var content = step.Submission.Content;
        if (read is null || !content.Reads)
        {
            return [];
        }

        var found = new FrameAnswer[step.Submission.Frames];
        for (var frame = 0; frame < found.Length; frame++)
        {
            found[frame] = read.Read(firstFrame + frame, step.Decoded!.ViewOf(frame), content);
        }

        return found;
    }

    // Frozen streams are watched too. The frames' memory is still there, so a sampled frame is copied from it.
    private void Watch(BatchEntry entry, StepResult result, AnswerReader.Step? read)
    {
        var (health, session) = (entry.Session.Watch.Health, entry.Session);
        var scores = writer.Scores(result.Outputs);
        var classes = scores?.Shape[1] ?? 0;
        var frame = 0;
        foreach (var step in entry.Steps)
        {
            var (sum, learned) = (0.0, 0);
            foreach (var picture in step.Pictures)
            {
                // What is answered to a frame without a picture tells nothing of the camera's classes.
                var teaches = entry.NotLearned is null || entry.NotLearned[frame] == NotLearnedReason.None;
                var row = scores is null || !teaches ? default : scores.Values.AsSpan(frame * classes, classes);
                var (sampled, entropy) = read is not null && teaches ? Watch(health, read.Summarize(frame), picture.Facts) : health.Observe(row, picture.Facts);
                (sum, learned) = teaches ? (sum + (entropy ?? double.NaN), learned + 1) : (sum, learned);
                if (sampled)
                {
                    var clip = session.Model.Engine.Model.ClipFrames;
                    session.Model.Shadow.Add(health, session.Method.Name, entry.Block.CopyFrames(frame - (frame % clip), clip), row.ToArray());
                }

                frame++;
            }

            // Not a number, and not recorded, when no frame tells.
            metrics.Predicted(session.Model.Name, session.Method.Name, session.Name, sum / learned);
        }
    }

    private static (bool Sampled, double? Entropy) Watch(StreamHealth health, (float[] Shares, double? Entropy) found, FrameFacts facts)
    {
        health.Observe(found.Shares, found.Entropy, facts);
        return (false, found.Entropy);
    }
}
