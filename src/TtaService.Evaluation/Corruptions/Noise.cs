namespace TtaService.Evaluation;

internal static class Noise
{
    public static void Gaussian(Picture picture, Strength strength, Random random)
    {
        var deviation = strength.Of([0.04f, 0.06f, 0.08f, 0.09f, 0.10f], [0.08f, 0.12f, 0.18f, 0.26f, 0.38f]);
        picture.Map(value => value + (deviation * (float)random.NextNormal()));
    }

    public static void Shot(Picture picture, Strength strength, Random random)
    {
        var photons = strength.Of([500.0, 250, 100, 75, 50], [60.0, 25, 12, 5, 3]);
        picture.Map(value => (float)(Poisson(value * photons, random) / photons));
    }

    public static void Impulse(Picture picture, Strength strength, Random random)
    {
        var share = strength.Of([0.01, 0.02, 0.03, 0.05, 0.07], [0.03, 0.06, 0.09, 0.17, 0.27]);
        picture.Map(value => random.NextDouble() < share ? (random.NextDouble() < 0.5 ? 0 : 1) : value);
    }

    private static double Poisson(double mean, Random random)
    {
        if (mean > 30)
        {
            return Math.Max(0, Math.Round(mean + (Math.Sqrt(mean) * random.NextNormal())));
        }

        // Knuth's product of uniform numbers.
        var limit = Math.Exp(-mean);
        var count = 0;
        for (var product = random.NextDouble(); product > limit; product *= random.NextDouble())
        {
            count++;
        }

        return count;
    }
}
