/* float and double: library functions, rounding, infinities and NaN (printed by kind, never by bits), Newton, a small FFT. */
#include <complex.h>
#include <math.h>
#include <stdio.h>

static double newton(double x) {
    double guess = x / 2;
    for (int i = 0; i < 20; i++)
        guess = (guess + x / guess) / 2;
    return guess;
}

static void fft(double *re, double *im, int n) {
    if (n == 1)
        return;
    double even_re[16], even_im[16], odd_re[16], odd_im[16];
    for (int i = 0; i < n / 2; i++) {
        even_re[i] = re[2 * i], even_im[i] = im[2 * i];
        odd_re[i] = re[2 * i + 1], odd_im[i] = im[2 * i + 1];
    }
    fft(even_re, even_im, n / 2);
    fft(odd_re, odd_im, n / 2);
    for (int i = 0; i < n / 2; i++) {
        double c = cos(-2 * 3.14159265358979323846 * i / n), s = sin(-2 * 3.14159265358979323846 * i / n);
        double r = c * odd_re[i] - s * odd_im[i], m = c * odd_im[i] + s * odd_re[i];
        re[i] = even_re[i] + r, im[i] = even_im[i] + m;
        re[i + n / 2] = even_re[i] - r, im[i + n / 2] = even_im[i] - m;
    }
}

int main(void) {
    for (double x = 0.25; x < 5; x += 1.25)
        printf("%.9f %.9f %.9f %.9f %.9f\n", sin(x), exp(x), log(x), pow(x, 1.7), atan2(x, 2));
    for (float f = 0.1f; f < 2; f *= 1.9f)
        printf("%.6f %.6f %.6f\n", (double)sqrtf(f), (double)floorf(f * 7), (double)fmodf(f * 100, 7));
    printf("%.12f %.12f\n", newton(2), newton(1e6));
    double re[16], im[16] = {0};
    for (int i = 0; i < 16; i++)
        re[i] = i % 5 - 2;
    fft(re, im, 16);
    for (int i = 0; i < 16; i += 3)
        printf("(%.6f %.6f) ", re[i], im[i]);
    volatile double zero = 0;
    printf("\n%d %d %d %.1f %.1f\n", isnan(zero / zero) != 0, isinf(1 / zero) != 0, signbit(-zero) != 0, round(-2.5), rint(2.5));
    printf("%a %g %e %d\n", 0.1, 1e-300 * 1e-10, 123456.789, (int)-3.99);
    int exponent;
    double mantissa = frexp(48.0, &exponent);
    printf("%.3f %d %.3f\n", mantissa, exponent, ldexp(0.75, 5));
    long long converted = (long long)9.007199254740993e15;
    printf("%lld %u %.1f\n", converted, (unsigned)4e9, (double)(float)16777217.0);
    return 0;
}
