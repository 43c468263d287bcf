// 1000: vectors: a filter over bytes and a dot product of floats with 128-bit SIMD
#include "kernel.h"
#include <wasm_simd128.h>

static uint8_t image[16384], out[16384];
static float left[4096], right[4096];

static NOINLINE float pass(int shift) {
    v128_t bias = wasm_i8x16_splat((int8_t)shift), sum = wasm_f32x4_splat(0);
    for (int i = 16; i < 16384 - 16; i += 16) {
        v128_t before = wasm_v128_load(image + i - 1), here = wasm_v128_load(image + i), after = wasm_v128_load(image + i + 1);
        v128_t smooth = wasm_u8x16_avgr(wasm_u8x16_avgr(before, after), here);
        wasm_v128_store(out + i, wasm_u8x16_add_sat(wasm_v128_xor(smooth, bias), wasm_i8x16_splat(1)));
    }
    for (int i = 0; i < 4096; i += 4)
        sum = wasm_f32x4_add(sum, wasm_f32x4_mul(wasm_v128_load(left + i), wasm_v128_load(right + i)));
    PAUSE();
    return wasm_f32x4_extract_lane(sum, 0) + wasm_f32x4_extract_lane(sum, 3);
}

int run(int turns) {
    float total = 0;
    for (int i = 0; i < 16384; i++)
        image[i] = (uint8_t)(i * i >> 3);
    for (int i = 0; i < 4096; i++)
        left[i] = (float)(i % 17) / 17, right[i] = (float)(i % 5) - 2;
    for (int t = 0; t < turns; t++)
        for (int i = 0; i < 100; i++) {
            total += pass(t + i);
            image[(t * 100 + i) % 16384] = out[(i * 37) % 16000 + 16];
        }
    return (int)total + out[5000] * 65536;
}
