/*
 * The one program of the scratch test image: it shows what a container without a shell was given,
 * without ever printing a value (a container's output is written to disk by the Engine).
 *
 *   probe FILE...          one line for each: SHA-256, size, uid:gid, mode, name; 1 if one cannot be read
 *   probe env NAME...      one line for each: SHA-256, size, name; 1 if one is not set
 *   probe wait FILE...     as `probe FILE...`, then runs until SIGTERM or SIGINT
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void mix(uint32_t state[8], const unsigned char *block)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
               (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t one = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
                       ((s[4] & s[5]) ^ (~s[4] & s[6])) + K[i] + w[i];
        uint32_t two = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) +
                       ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

/* SHA-256 (FIPS 180-4) in hexadecimal. `data` has room for 72 more bytes of padding. */
static void print_digest(unsigned char *data, size_t size)
{
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    size_t end = (size + 8) / 64 * 64 + 64;
    memset(data + size, 0, end - size);
    data[size] = 0x80;
    for (int i = 0; i < 8; i++)
        data[end - 1 - i] = (uint64_t)size * 8 >> 8 * i;
    for (size_t at = 0; at < end; at += 64)
        mix(state, data + at);
    for (int i = 0; i < 8; i++)
        printf("%08x", state[i]);
}

static int show_file(const char *name)
{
    struct stat about;
    int fd = open(name, O_RDONLY);
    if (fd < 0 || fstat(fd, &about) < 0) {
        fprintf(stderr, "probe: %s: %s\n", name, strerror(errno));
        return 1;
    }
    unsigned char *data = malloc(about.st_size + 72);
    ssize_t size = 0, got;
    while (data && (got = read(fd, data + size, about.st_size - size)) > 0)
        size += got;
    if (!data || size != about.st_size) {
        fprintf(stderr, "probe: %s: cannot read all of it\n", name);
        return 1;
    }
    print_digest(data, size);
    printf(" %zd %u:%u %04o %s\n", size, about.st_uid, about.st_gid, about.st_mode & 07777, name);
    close(fd);
    free(data);
    return 0;
}

static int show_variable(const char *name)
{
    const char *value = getenv(name);
    if (!value) {
        fprintf(stderr, "probe: %s is not set\n", name);
        return 1;
    }
    size_t size = strlen(value);
    unsigned char *data = malloc(size + 72);
    memcpy(data, value, size);
    print_digest(data, size);
    printf(" %zu %s\n", size, name);
    free(data);
    return 0;
}

static void stop(int number) { _exit(number == SIGTERM || number == SIGINT ? 0 : 1); }

int main(int count, char **words)
{
    int failed = 0, wait = count > 1 && !strcmp(words[1], "wait"), env = count > 1 && !strcmp(words[1], "env");
    signal(SIGTERM, stop); /* PID 1 has no default handlers */
    signal(SIGINT, stop);
    for (int i = 1 + (wait || env); i < count; i++)
        failed |= env ? show_variable(words[i]) : show_file(words[i]);
    fflush(stdout);
    while (wait && !failed)
        pause();
    return failed;
}
