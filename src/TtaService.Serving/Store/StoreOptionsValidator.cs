using Microsoft.Extensions.Options;
using StackExchange.Redis;

namespace TtaService.Serving.Store;

/// <summary>Checks what one option alone does not tell: what the kind needs, and files that must be there.</summary>
internal sealed class StoreOptionsValidator : IValidateOptions<StoreOptions>
{
    public ValidateOptionsResult Validate(string? name, StoreOptions options)
    {
        var errors = new List<string>();
        if (options.Kind == StoreKind.Redis)
        {
            Check(options.RedisConfiguration, errors);
        }

        if (options.OwnerTimeout <= options.RenewInterval)
        {
            errors.Add($"Store:OwnerTimeout is {options.OwnerTimeout}, it must be longer than Store:RenewInterval ({options.RenewInterval}), "
                + "or every owner seems dead between two signs of life");
        }

        if (options.SigningKeyFile is { } key)
        {
            if (!File.Exists(key))
            {
                errors.Add($"Store:SigningKeyFile: '{key}' does not exist; make it with 'head -c 32 /dev/urandom'");
            }
            else if (new FileInfo(key).Length < CheckpointSeal.MinKeyBytes)
            {
                errors.Add($"Store:SigningKeyFile: '{key}' has {new FileInfo(key).Length} bytes, at least {CheckpointSeal.MinKeyBytes} are needed; "
                    + "make it with 'head -c 32 /dev/urandom'");
            }
        }

        return errors.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(errors);
    }

    private static void Check(string? redis, List<string> errors)
    {
        if (string.IsNullOrWhiteSpace(redis))
        {
            errors.Add("Store:RedisConfiguration: Store:Kind is redis, but no server is named; set it to host:port");
            return;
        }

        try
        {
            if (ConfigurationOptions.Parse(redis).EndPoints.Count == 0)
            {
                errors.Add("Store:RedisConfiguration: no server is named; begin with host:port");
            }
        }
        catch (ArgumentException e)
        {
            errors.Add($"Store:RedisConfiguration: {e.Message}");
        }
    }
}
