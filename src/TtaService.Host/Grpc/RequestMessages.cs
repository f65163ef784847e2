using System.Buffers;
using System.Buffers.Binary;
using System.IO.Pipelines;
using Grpc.Core;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using TtaService.Serving.Streams;

namespace TtaService.Host.Grpc;

/// <summary>The body of a gRPC request, between Kestrel and gRPC. Sees the header of each message (a byte that tells whether it is packed, four of its length) before the bytes behind it come, and each message before it is parsed.</summary>
/// <remarks>
/// All that a request may cost before a service sees it is decided here: size, bytes on their way, time, fields, and that the server stops. gRPC passes the exception on as the call's status, also of a unary call, which no interceptor
/// sees before it is parsed. gRPC takes messages whole, so what is read always begins with a message.
/// </remarks>
internal sealed class RequestMessages : PipeReader, IDisposable
{
    private const int HeaderBytes = 5;

    private static readonly AsyncLocal<RequestMessages?> InThisFlow = new();

    private readonly PipeReader _body;
    private readonly RequestLimits _limits;
    private readonly MessageBudget _budget;
    private readonly TimeProvider _clock;
    private readonly Lock _gate = new();
    private ReadOnlySequence<byte> _read;
    private ITimer? _timer;
    private Patience? _waiting;
    private Failure? _ended;
    private bool _disposed;
    private Stage _stage;
    private bool _anyTaken;

    public RequestMessages(PipeReader body, RequestLimits limits, ConnectionMessages connection, MessageBudget budget, TimeProvider clock)
    {
        (_body, _limits, Connection, _budget, _clock) = (body, limits, connection, budget, clock);
        InThisFlow.Value = this;
    }

    private enum Stage
    {
        Between,
        Begun,
        Counted,
        Whole,
    }

    /// <summary>Of the call that runs in this flow; null outside of calls.</summary>
    public static RequestMessages? Current => InThisFlow.Value;

    public ConnectionMessages Connection { get; }

    /// <summary>What the budget counts. Guarded by it.</summary>
    public long HeldBytes { get; set; }

    /// <summary>Of a message, unpacked.</summary>
    public int MaxBytes => _limits.MaxBytes;

    /// <summary>Ends the call as soon as it waits for its client.</summary>
    public void End(Failure why)
    {
        lock (_gate)
        {
            // Kestrel uses the body again for other calls.
            if (!_disposed)
            {
                _ended ??= why;
                try
                {
                    _body.CancelPendingRead();
                }
                catch (Exception gone) when (gone is IOException or OperationCanceledException or InvalidOperationException)
                {
                    // Its client has ended it already.
                }
            }
        }
    }

    /// <summary>Somebody else counts the message from now on.</summary>
    public void HandOver() => _budget.GiveBack(this);

    /// <summary>Why a message is too large.</summary>
    public RpcException TooLarge(string bytes) => new Failure(
        FailureKind.ResourceExhausted, "MESSAGE_TOO_LARGE", $"a message of the call has {bytes} bytes, the limit is {MaxBytes} bytes (Server:MaxMessageBytes); send smaller frames, or fewer a step").ToRpcException();

    /// <summary>A packed message came out as this.</summary>
    public void Unpacked(in ReadOnlySequence<byte> message)
    {
        Refuse(_budget.Take(this, message.Length, isWhole: true));
        Refuse(_limits.Fields.WhyRefused(message));
    }

    public override async ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
    {
        ThrowWhenEnded();
        if (_stage == Stage.Between && !_limits.IsSingle)
        {
            // Who reads on has done with the message before.
            _budget.GiveBack(this);
        }

        ReadResult result;
        try
        {
            // The call itself throws, too, when the reset came before it.
            var reading = _body.ReadAsync(cancellationToken);
            if (!reading.IsCompleted && (_limits.IsSingle || _stage == Stage.Between))
            {
                WaitFor(_anyTaken && !_limits.IsSingle ? _limits.Next : _limits.First);
            }

            result = await reading.ConfigureAwait(false);
        }
        catch (IOException broken) when (IsClients(broken))
        {
            throw Reset(broken);
        }

        _read = result.Buffer;
        try
        {
            ThrowWhenEnded();
            Look(_read);
        }
        catch
        {
            AdvanceTo(_read.Start);
            throw;
        }

        if (_limits.IsSingle ? result.IsCompleted : _stage is Stage.Between or Stage.Whole)
        {
            WaitFor(null);
        }

        return result;
    }

    public override bool TryRead(out ReadResult result)
    {
        try
        {
            if (!_body.TryRead(out result))
            {
                return false;
            }
        }
        catch (IOException broken) when (IsClients(broken))
        {
            throw Reset(broken);
        }

        _read = result.Buffer;
        Look(_read);
        return true;
    }

    public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

    public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
    {
        if (_read.GetOffset(consumed) > _read.GetOffset(_read.Start))
        {
            (_stage, _anyTaken) = (Stage.Between, true);
        }

        _read = default;
        try
        {
            _body.AdvanceTo(consumed, examined);
        }
        catch (IOException broken) when (IsClients(broken))
        {
            throw Reset(broken);
        }
    }

    public override void CancelPendingRead() => _body.CancelPendingRead();

    public override void Complete(Exception? exception = null) => _body.Complete(exception);

    public void Dispose()
    {
        lock (_gate)
        {
            _disposed = true;
            _timer?.Dispose();
        }

        _budget.GiveBack(this);
    }

    private static void Refuse(Failure? failure)
    {
        if (failure is not null)
        {
            throw failure.ToRpcException();
        }
    }

    private void Look(in ReadOnlySequence<byte> buffer)
    {
        // Behind a single message gRPC refuses everything.
        if (_stage == Stage.Whole || (_limits.IsSingle && _anyTaken) || buffer.IsEmpty)
        {
            return;
        }

        if (_stage == Stage.Between)
        {
            _stage = Stage.Begun;
        }

        if (buffer.Length >= HeaderBytes)
        {
            LookAtMessage(buffer);
        }

        if (_stage != Stage.Whole && !_limits.IsSingle)
        {
            WaitFor(_limits.Rest);
        }
    }

    private void LookAtMessage(in ReadOnlySequence<byte> buffer)
    {
        Span<byte> header = stackalloc byte[HeaderBytes];
        buffer.Slice(0, HeaderBytes).CopyTo(header);
        var (packed, length) = (header[0], BinaryPrimitives.ReadUInt32BigEndian(header[1..]));
        var isWhole = buffer.Length - HeaderBytes >= length;
        if (_stage == Stage.Begun)
        {
            if (packed > 1)
            {
                throw MessageFields.Unreadable($"its first byte is {packed}, neither 0 for plain nor 1 for packed").ToRpcException();
            }

            if (length > MaxBytes)
            {
                throw TooLarge($"{length}");
            }

            Refuse(_budget.Take(this, HeaderBytes + length, isWhole));
            _stage = Stage.Counted;
        }

        if (!isWhole)
        {
            return;
        }

        _stage = Stage.Whole;
        _budget.Finish(this);
        if (packed == 0)
        {
            Refuse(_limits.Fields.WhyRefused(buffer.Slice(HeaderBytes, length)));
        }
    }

    // The same patience goes on; another one begins.
    private void WaitFor(Patience? patience)
    {
        lock (_gate)
        {
            if (ReferenceEquals(patience, _waiting) || _disposed)
            {
                return;
            }

            _waiting = patience;
            _timer ??= _clock.CreateTimer(static call => ((RequestMessages)call!).EndLate(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            _timer.Change(patience?.Time ?? Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }
    }

    private void EndLate()
    {
        lock (_gate)
        {
            if (_waiting is { } patience)
            {
                End(patience.Late);
            }
        }
    }

    private void ThrowWhenEnded()
    {
        if (Volatile.Read(ref _ended) is { } why)
        {
            throw why.ToRpcException();
        }
    }

    // Kestrel tells of a reset by the body before it cancels the call, so the call's token can't tell whose doing it was.
    private static bool IsClients(IOException broken) => broken is not (ConnectionResetException or BadHttpRequestException);

    private static ConnectionResetException Reset(IOException broken) => new(broken.Message, broken);
}
