#include "archive.h"

#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXECUTABLE "/proc/self/exe"
#define SEARCHED (1 << 16) /* what follows the archive is the executable's section table */

/* Integers are big-endian, and nothing is aligned. */
struct cookie {
    unsigned char magic[8];
    uint32_t length, table, table_length, python;
    char library[64];
} __attribute__((packed));

struct header {
    uint32_t length, offset, stored, full;
    unsigned char compressed;
    char kind;
    char name[];
} __attribute__((packed));

static int executable = -1;
static const unsigned char *file_start, *archive, *table, *table_end;
static char path[4096];

static bool is_cookie(const unsigned char *at)
{
    /* not as one constant, which would be found in the program itself */
    return memcmp(at, "MEI", 3) == 0 && at[3] == 014 && memcmp(at + 4, "\013\012\013\016", 4) == 0;
}

/* Whether all entries are within the archive: whoever reads them later does not look. */
static bool is_sound(void)
{
    const unsigned char *position = table;

    while (position < table_end) {
        const struct header *header = (const struct header *)position;
        size_t left = (size_t)(table_end - position), length;
        if (left <= sizeof *header)
            return false;
        length = be32toh(header->length);
        if (length <= sizeof *header || length > left || position[length - 1] != 0 || header->compressed)
            return false;
        if (be32toh(header->stored) > INT_MAX
            || (uint64_t)be32toh(header->offset) + be32toh(header->stored) > (size_t)(table - archive))
            return false;
        position += length;
    }
    return true;
}

static int open_at(const unsigned char *file, size_t size)
{
    const struct cookie *cookie;
    size_t last, end;

    if (size < sizeof *cookie)
        return -1;
    last = size - sizeof *cookie;
    for (end = last; !is_cookie(file + end); end--)
        if (end == 0 || last - end > SEARCHED)
            return -1;
    cookie = (const struct cookie *)(file + end);
    end += sizeof *cookie;
    if (be32toh(cookie->length) > end
        || (uint64_t)be32toh(cookie->table) + be32toh(cookie->table_length) > be32toh(cookie->length))
        return -1;
    archive = file + end - be32toh(cookie->length);
    table = archive + be32toh(cookie->table);
    table_end = table + be32toh(cookie->table_length);
    return is_sound() ? 0 : -1;
}

static int open_file(const char *name)
{
    struct stat status;
    void *mapped;

    executable = open(name, O_RDONLY | O_CLOEXEC);
    if (executable < 0)
        return -1;
    if (fstat(executable, &status) == 0 && status.st_size > 0) {
        mapped = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, executable, 0);
        if (mapped != MAP_FAILED) {
            file_start = mapped;
            if (open_at(file_start, (size_t)status.st_size) == 0)
                return 0;
            munmap(mapped, (size_t)status.st_size);
        }
    }
    close(executable);
    return -1;
}

int archive_open(void)
{
    ssize_t length = readlink(EXECUTABLE, path, sizeof path - 1);
    const char *called = (const char *)getauxval(AT_EXECFN);

    if (length > 0)
        path[length] = 0;
    else if (called && strlen(called) < sizeof path) /* there is no /proc */
        strcpy(path, called);
    /* The first leads to this program even after an upgrade has put another in its place; the second is for debuggers
     * and the like, of which the kernel says that they are what runs. */
    return open_file(EXECUTABLE) == 0 ? 0 : open_file(path);
}

const char *archive_path(void)
{
    return path;
}

int archive_file(void)
{
    return executable;
}

off_t archive_offset(const struct entry *entry)
{
    return entry->data - file_start;
}

struct cursor archive_begin(void)
{
    return (struct cursor){table};
}

bool archive_next(struct cursor *cursor, struct entry *entry)
{
    const struct header *header = (const struct header *)cursor->position;

    if (cursor->position >= table_end)
        return false;
    cursor->position += be32toh(header->length);
    entry->name = header->name;
    entry->data = archive + be32toh(header->offset);
    entry->size = be32toh(header->stored);
    entry->kind = header->kind;
    return true;
}

size_t archive_count(void)
{
    struct cursor cursor = archive_begin();
    struct entry entry;
    size_t count = 0;

    while (archive_next(&cursor, &entry))
        count++;
    return count;
}

bool archive_find(const char *name, struct entry *entry)
{
    struct cursor cursor = archive_begin();

    while (archive_next(&cursor, entry))
        if (entry->kind == KIND_FILE && strcmp(entry->name, name) == 0)
            return true;
    return false;
}
