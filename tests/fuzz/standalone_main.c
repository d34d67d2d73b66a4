/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target once over each file named, or found in a folder named, on the command
 * line: the corpus as a regression test, for builds without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return -1;
    }
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    /* exactly as long as the input, so that a read past it is seen */
    uint8_t *data = n > 0 ? malloc((size_t)n) : NULL;
    size_t got = data ? fread(data, 1, (size_t)n, f) : 0;
    fclose(f);
    if (n < 0 || got != (size_t)n) {
        fprintf(stderr, "%s: cannot be read\n", path);
        free(data);
        return -1;
    }
    static const uint8_t nothing[1] = {0};
    LLVMFuzzerTestOneInput(data ? data : nothing, got);
    free(data);
    return 1;
}

/* Number of inputs run, or -1. */
static int run_path(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return run_file(path);
    int count = 0;
    for (struct dirent *e = readdir(dir); e && count >= 0; e = readdir(dir)) {
        char file[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        int one = run_file(file);
        count = one < 0 ? -1 : count + one;
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int n = run_path(argv[i]);
        if (n < 0)
            return 1;
        total += n;
    }
    printf("%d inputs\n", total);
    return total > 0 ? 0 : 1;
}
