using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.Streams;

/// <summary>Who is next, without models, frames or threads.</summary>
public sealed class WorkLineTests
{
    private readonly WorkLine _line;
    private int _readied;

    public WorkLineTests() => _line = new WorkLine(() => _readied++);

    [Fact]
    public void Work_NotReady_StandsInNoLineUntilItIs()
    {
        var queue = new StreamQueue();
        var step = Enter(queue, "step", ready: false);
        Assert.Equal((StreamPhase.Decoding, 0, 0), (queue.Phase, _line.Count, _readied));

        step.IsReady = true;
        _line.Settle(queue);
        _line.Settle(queue);

        Assert.Equal((StreamPhase.Ready, 1, 1), (queue.Phase, _line.Count, _readied));
    }

    [Fact]
    public void Stream_ItsSecondWork_WaitsUntilTheFirstIsDone()
    {
        var queue = new StreamQueue();
        Enter(queue, "first");
        Enter(queue, "second");

        Assert.Equal(["first"], Form(8));
        Assert.Equal(StreamPhase.Running, queue.Phase);
        Assert.Empty(Form(8));
        _line.Done(queue);
        Assert.Equal(["second"], Form(8));
        _line.Done(queue);
        Assert.True(queue.IsEmpty);
    }

    [Fact]
    public void Stream_FirstWorkNotReady_HoldsItsReadyOnesBack()
    {
        var queue = new StreamQueue();
        var slow = Enter(queue, "slow", ready: false);
        Enter(queue, "quick");
        Assert.Empty(Form(8));

        WorkLine.Leave(slow);
        _line.Settle(queue);

        Assert.Equal(["quick"], Form(8));
    }

    [Fact]
    public void Form_OneDoesNotFit_ItKeepsItsPlaceAndOthersPass()
    {
        Enter(new StreamQueue(), "a", frames: 3);
        Enter(new StreamQueue(), "large", frames: 4);
        Enter(new StreamQueue(), "b", frames: 4);

        Assert.Equal(["a"], Form(6));
        Assert.Equal(["large"], Form(6));
        Assert.Equal(["b"], Form(6));
    }

    [Fact]
    public void Form_SmallStepsAndLargeOnes_SmallOnesPassAndTheLargeIsNotStarved()
    {
        var (flood, camera) = (new StreamQueue(), new StreamQueue());
        Enter(flood, "flood 1", frames: 8);
        Assert.Equal(["flood 1"], Form(8));
        Enter(flood, "flood 2", frames: 8);
        Enter(camera, "camera 1");
        _line.Done(flood);
        var order = new List<string>();
        for (var i = 2; order.Count < 24; i++)
        {
            order.AddRange(Form(1));
            Enter(camera, $"camera {i}");
            _line.Done(camera);
        }

        Assert.Equal("camera 1", order[0]);
        Assert.InRange(order.IndexOf("flood 2"), 1, 17);
    }

    [Fact]
    public void Form_OneThatAsksSeldomAmongManyThatAskAlways_RunsNextAndAlone()
    {
        var (camera, floods) = (new StreamQueue(), Enumerable.Range(0, 20).Select(_ => new StreamQueue()).ToList());
        Enter(camera, "camera");
        Assert.Equal(["camera"], Form(8));
        _line.Done(camera);
        floods.ForEach(flood => Enter(flood, "flood"));
        for (var i = 0; i < 20; i++)
        {
            Form(8);
            foreach (var flood in floods.Where(flood => flood.Phase == StreamPhase.Running))
            {
                Enter(flood, "flood");
                _line.Done(flood);
            }
        }

        Assert.Empty(Form(8, onlyOwed: true));
        Enter(camera, "camera");
        Assert.Equal(["camera"], Form(8));
        Assert.Equal(8, Form(8).Count);
    }

    [Fact]
    public void Form_AllAskAlike_NobodyIsOwed()
    {
        var cameras = Enumerable.Range(0, 20).Select(_ => new StreamQueue()).ToList();
        cameras.ForEach(camera => Enter(camera, "camera"));
        for (var i = 0; i < 50; i++)
        {
            Assert.Empty(Form(8, onlyOwed: true));
            Assert.Equal(8, Form(8).Count);
            foreach (var camera in cameras.Where(camera => camera.Phase == StreamPhase.Running))
            {
                Enter(camera, "camera");
                _line.Done(camera);
            }
        }
    }

    [Fact]
    public void Form_NothingOfAStreamMayRun_TheStreamLeavesTheLine()
    {
        var queue = new StreamQueue();
        Enter(queue, "late");

        _line.Form(
            8,
            onlyOwed: false,
            waiting =>
            {
                WorkLine.Leave(waiting.Work.First!.Value);
                return null;
            },
            (_, _) => throw new InvalidOperationException("nothing is taken"));

        Assert.True(queue.IsEmpty);
        Assert.Equal(0, _line.Count);
    }

    [Fact]
    public void Company_IsWaitedFor_OnlyWhileRoomIsLeftAndSomebodyIsComing()
    {
        Enter(new StreamQueue(), "here");
        Assert.False(_line.CompanyIsComing(2));
        Enter(new StreamQueue(), "coming", ready: false);
        Assert.True(_line.CompanyIsComing(2));
        Assert.False(_line.CompanyIsComing(1));
    }

    private Work Enter(StreamQueue queue, string name, bool ready = true, int frames = 1)
    {
        var work = new Work(queue, name, frames) { IsReady = ready };
        _line.Enter(work);
        return work;
    }

    private List<string> Form(int maxFrames, bool onlyOwed = false)
    {
        var taken = new List<string>();
        _line.Form(
            maxFrames,
            onlyOwed,
            queue => queue.Work.First?.Value is { Ready: true } work ? work : null,
            (work, frames) =>
            {
                if (taken.Count > 0 && frames + work.Frames > maxFrames)
                {
                    return null;
                }

                WorkLine.Leave(work);
                taken.Add(((Work)work).Name);
                return work.Frames;
            });
        return taken;
    }

    private sealed class Work(StreamQueue queue, string name, int frames) : QueuedWork(queue)
    {
        public string Name { get; } = name;

        public bool IsReady { get; set; }

        public override bool Ready => IsReady;

        public override int Frames => frames;
    }
}
