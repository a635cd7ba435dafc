/* The archive that PyInstaller appends to an executable (PyInstaller/archive/writers.py, CArchiveWriter). */

#ifndef DSO_ARCHIVE_H
#define DSO_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Kinds of entries that are code; all others are `a`, files of which nothing is unpacked. */
#define KIND_MODULE 'm'
#define KIND_PACKAGE 'M'
#define KIND_SCRIPT 's'
#define KIND_FILE 'a'
#define MODULE_KINDS ((const char[]){KIND_MODULE, KIND_PACKAGE, KIND_SCRIPT, 0})

/* One entry; both pointers lead into the mapped executable. */
struct entry {
    const char *name;
    const unsigned char *data;
    size_t size;
    char kind;
};

struct cursor {
    const unsigned char *position;
};

/* Map the executable of this process; -1 if it cannot be read, or holds no archive that is whole. */
int archive_open(void);

/* The path of the executable, as the kernel tells it. */
const char *archive_path(void);

/* The executable's descriptor, which stays open, and where in it an entry is. */
int archive_file(void);
off_t archive_offset(const struct entry *entry);

size_t archive_count(void);
struct cursor archive_begin(void);
bool archive_next(struct cursor *cursor, struct entry *entry);
bool archive_find(const char *name, struct entry *entry);

/* Begin to load, in a thread, the library that the entry `ahead/WORD` names, if there is one; `_archive.load` waits for
 * it. Where that fails, it is loaded as any other when its turn comes. */
void archive_load_ahead(const char *word);

/* Make `_archive` a built-in module (see module.c), before the interpreter starts; -1 without memory. */
int archive_module(void);

#endif
