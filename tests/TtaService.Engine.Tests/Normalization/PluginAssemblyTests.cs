using System.Reflection;
using System.Reflection.Emit;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Plugins;

namespace TtaService.Engine.Tests.Normalization;

/// <summary>Assemblies, made here, that can't bring methods; what each refusal says.</summary>
public sealed class PluginAssemblyTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tta-plugins-").FullName;

    [Fact]
    public void WithAssembly_BuiltAgainstAnotherContract_SaysBoth() =>
        AssertRefused("is built against contract 99 of methods, this release has contract 1", contract: 99, throws: false);

    [Fact]
    public void WithAssembly_WhoseConstructorThrows_SaysWhatItThrew() =>
        AssertRefused("failed in the constructor of Made.Plugin: NotSupportedException: ", MethodPluginAttribute.CurrentContract, throws: true);

    [Fact]
    public void WithAssembly_WithoutMethods_SaysSo() =>
        AssertRefused("failed when it was asked for its methods", MethodPluginAttribute.CurrentContract, throws: false);

    [Fact]
    public void WithAssembly_WhoseClassIsNoPlugin_SaysWhatItNeeds() =>
        AssertRefused("names Made.Plugin, which can't be its methods; an assembly of methods has", MethodPluginAttribute.CurrentContract, throws: false, isPlugin: false);

    [Fact]
    public void Contract_OfAnAttributeInSource_IsTheOneItWasCompiledWith() =>
        Assert.Equal(MethodPluginAttribute.CurrentContract, new MethodPluginAttribute(typeof(string)).Contract);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void AssertRefused(string why, int contract, bool throws, bool isPlugin = true)
    {
        var path = Path.Combine(_folder, "Made.dll");
        Write(path, contract, throws, isPlugin);
        var wrong = Assert.Throws<MethodRegistrationException>(() => MethodRegistry.BuiltIn.WithAssembly(path));
        Assert.Contains(why, wrong.Message, StringComparison.Ordinal);
        Assert.Contains(path, wrong.Message, StringComparison.Ordinal);
    }

    // [assembly: MethodPlugin(typeof(Made.Plugin), contract)], with a class whose methods are null.
    private static void Write(string path, int contract, bool throws, bool isPlugin)
    {
        var assembly = new PersistedAssemblyBuilder(new AssemblyName("Made"), typeof(object).Assembly);
        var plugin = assembly.DefineDynamicModule("Made").DefineType("Made.Plugin", TypeAttributes.Public | TypeAttributes.Class);
        var constructor = plugin.DefineConstructor(MethodAttributes.Public, CallingConventions.Standard, Type.EmptyTypes).GetILGenerator();
        if (throws)
        {
            constructor.Emit(OpCodes.Newobj, typeof(NotSupportedException).GetConstructor(Type.EmptyTypes)!);
            constructor.Emit(OpCodes.Throw);
        }
        else
        {
            constructor.Emit(OpCodes.Ldarg_0);
            constructor.Emit(OpCodes.Call, typeof(object).GetConstructor(Type.EmptyTypes)!);
            constructor.Emit(OpCodes.Ret);
        }

        if (isPlugin)
        {
            plugin.AddInterfaceImplementation(typeof(IMethodPlugin));
            var methods = plugin.DefineMethod("get_Methods", MethodAttributes.Public | MethodAttributes.Virtual, typeof(IEnumerable<MethodDefinition>), Type.EmptyTypes);
            methods.GetILGenerator().Emit(OpCodes.Ldnull);
            methods.GetILGenerator().Emit(OpCodes.Ret);
            plugin.DefineMethodOverride(methods, typeof(IMethodPlugin).GetProperty(nameof(IMethodPlugin.Methods))!.GetMethod!);
        }

        assembly.SetCustomAttribute(new CustomAttributeBuilder(typeof(MethodPluginAttribute).GetConstructors()[0], [plugin.CreateType(), contract]));
        assembly.Save(path);
    }
}
