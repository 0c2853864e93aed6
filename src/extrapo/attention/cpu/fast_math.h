// Exponential and logarithm in single precision, from the bits of a number (Cephes; Moshier 1992), in loops that compilers
// turn into vectors. Right to two in the last place; numbers below 2^-126 count as 0.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>

static inline int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float of_bits(int32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// e^x: of x = n ln 2 + y, 2^n e^y.
static inline float exponential(float x) {
    // 1.5 x 2^23: added to a number below 2^22 it leaves that number, rounded, in the lowest bits.
    float rounded = x * 1.44269504088896341f + 12582912.0f, n = rounded - 12582912.0f;
    // ln 2 in two parts: the first has so few bits that a whole number times it is exact.
    float y = x - n * 0.693359375f - n * -2.12194440e-4f;
    float power = ((((1.9875691500e-4f * y + 1.3981999507e-3f) * y + 8.3334519073e-3f) * y + 4.1665795894e-2f) * y + 1.6666665459e-1f) * y + 5.0000001201e-1f;
    power = power * (y * y) + y + 1.0f;
    power = of_bits(bits_of(power) + (bits_of(rounded) << 23));
    // Further out the bits above are anything; a NaN stays one.
    power = x < 88.72283f ? power : x * 3.402823466e38f;
    return x < -87.33654f ? 0.0f : power;
}

// ln x: of x = 2^n (1 + y), n ln 2 + ln(1 + y).
static inline float logarithm(float x) {
    // The bits of sqrt(1/2), from where to sqrt(2) a number is its own mantissa.
    int32_t bits = bits_of(x), exponent = (bits - 0x3F3504F3) >> 23;
    float y = of_bits(bits - (exponent << 23)) - 1.0f, n = float(exponent), square = y * y;
    float rest = (((((((7.0376836292e-2f * y - 1.1514610310e-1f) * y + 1.1676998740e-1f) * y - 1.2420140846e-1f) * y + 1.4249322787e-1f) * y
        - 1.6668057665e-1f) * y + 2.0000714765e-1f) * y - 2.4999993993e-1f) * y + 3.3333331174e-1f;
    float value = y + (rest * y * square - 0.5f * square + n * -2.12194440e-4f) + n * 0.693359375f;
    float nothing = x < 0.0f ? NAN : -INFINITY;
    return x < 1.17549435e-38f ? nothing : (x <= 3.402823466e38f ? value : x);
}

// ln(1 + x): the logarithm of the sum, and what its rounding left over.
static inline float logarithm_of_one_plus(float x) {
    float total = 1.0f + x, value = logarithm(total);
    return total > 0.0f && total <= 3.402823466e38f ? value + (x - (total - 1.0f)) / total : value;
}

static inline double exponential(double x) { return std::exp(x); }
static inline double logarithm(double x) { return std::log(x); }
static inline double logarithm_of_one_plus(double x) { return std::log1p(x); }

// x^y for x >= 0: kernels take powers of distances.
static inline float power_of(float x, float y) {
    return x > 0.0f ? exponential(y * logarithm(x)) : std::pow(x, y);
}
static inline double power_of(double x, double y) { return std::pow(x, y); }
