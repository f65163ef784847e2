using System.Buffers.Binary;
using System.Text;
using TtaService.Engine.Streams;
using TtaService.Serving.Store;

namespace TtaService.Host.Tests.Store;

public sealed class CheckpointSealTests
{
    private const int Flips = 1000;
    private static readonly StreamClaim Claim = new("s", 3, "a");

    [Fact]
    public void Unseal_WhatWasSealed_GivesItBack()
    {
        var seal = StoreTestParts.Seal();

        var stored = seal.Unseal("s", 1, seal.Seal(Claim, StoreTestParts.Pending(5)));

        Assert.Equal(("s", 1, 3, "a", 5ul, 5),
            (stored.Description.Stream, stored.Description.Number, stored.Description.Epoch, stored.Description.Owner, stored.Description.Sequence, stored.Description.Step));
        var content = Safetensors.Read(stored.Snapshot);
        var values = new float[64];
        content.CopyTo(stored.Snapshot, "site.ema_mean", values);
        Assert.All(values, value => Assert.Equal(5f, value));
    }

    [Fact]
    public void Verify_AnyHeaderByteChanged_IsRefused()
    {
        var seal = StoreTestParts.Seal();
        var file = seal.Seal(Claim, StoreTestParts.Pending(1));
        var header = 8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(file);
        for (var at = 0; at < header; at++)
        {
            foreach (var flip in new byte[] { 1, 0x80, 0xff })
            {
                var damaged = file.ToArray();
                damaged[at] ^= flip;
                Refused(seal, damaged, $"byte {at} of the header flipped by {flip}");
            }
        }
    }

    [Fact]
    public void Verify_RandomFlips_AreRefused()
    {
        var seal = StoreTestParts.Seal();
        var file = seal.Seal(Claim, StoreTestParts.Pending(1, floats: 4096));
        var random = new Random(1);
        for (var i = 0; i < Flips; i++)
        {
            var damaged = file.ToArray();
            damaged[random.Next(file.Length)] ^= (byte)(1 << random.Next(8));
            Refused(seal, damaged, $"flip {i}");
        }
    }

    [Fact]
    public void Verify_EveryTruncation_IsRefused()
    {
        var seal = StoreTestParts.Seal();
        var file = seal.Seal(Claim, StoreTestParts.Pending(1));
        for (var length = 0; length < file.Length; length++)
        {
            Refused(seal, file[..length], $"cut to {length} bytes");
        }

        Refused(seal, [.. file, 0], "a byte longer");
    }

    [Fact]
    public void Unseal_OfAnotherStream_IsForeign()
    {
        var seal = StoreTestParts.Seal();

        var refused = Assert.Throws<CheckpointRefusedException>(() => seal.Unseal("other", 1, seal.Seal(Claim, StoreTestParts.Pending(1))));

        Assert.Equal("foreign", refused.Reason);
    }

    [Fact]
    public void Verify_FutureVersion_IsRefusedByName()
    {
        var seal = StoreTestParts.Seal();
        var file = seal.Seal(Claim, StoreTestParts.Pending(1));
        var future = Encoding.Latin1.GetBytes(Encoding.Latin1.GetString(file).Replace("tta.checkpoint.v1", "tta.checkpoint.v2", StringComparison.Ordinal));

        var refused = Assert.Throws<CheckpointRefusedException>(() => seal.Verify(future, 1));

        Assert.Equal("future_version", refused.Reason);
        Assert.Contains("tta.checkpoint.v2", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Verify_SealedWithAnotherKeyOrNone_IsForged()
    {
        var key = new byte[32];
        key[0] = 1;
        var keyed = StoreTestParts.Seal(key);

        var unkeyed = Assert.Throws<CheckpointRefusedException>(() => keyed.Verify(StoreTestParts.Seal().Seal(Claim, StoreTestParts.Pending(1)), 1));
        var otherKey = Assert.Throws<CheckpointRefusedException>(() => keyed.Verify(StoreTestParts.Seal(new byte[32]).Seal(Claim, StoreTestParts.Pending(1)), 1));

        Assert.Equal(("forged", "forged"), (unkeyed.Reason, otherKey.Reason));
        Assert.Equal(1, keyed.Verify(keyed.Seal(Claim, StoreTestParts.Pending(1)), 1).Step);
    }

    private static void Refused(CheckpointSeal seal, byte[] file, string how)
    {
        try
        {
            seal.Unseal("s", 1, file);
        }
        catch (CheckpointRefusedException)
        {
            return;
        }

        Assert.Fail($"accepted: {how}");
    }
}
