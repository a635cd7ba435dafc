/* `_archive`: what Python code reads from the executable itself.
 *
 * `names()`: of all entries that are not code.  `read(NAME)`: an entry's content.
 * `load(NAME)`: load the shared library in an entry, and return the path that the dynamic linker knows it by from then
 * on. PermissionError if the machine lets no code run from anywhere we can put it, OSError with the dynamic linker's
 * message if that cannot load it.
 */

#include <Python.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "archive.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U /* <linux/memfd.h> of Linux 6.3 */
#endif

static PyObject *names(PyObject *self, PyObject *none)
{
    PyObject *found = PyList_New(0);
    struct cursor cursor = archive_begin();
    struct entry entry;

    (void)self, (void)none;
    while (found && archive_next(&cursor, &entry)) {
        PyObject *name;
        if (entry.kind != KIND_FILE)
            continue;
        name = PyUnicode_FromString(entry.name);
        if (!name || PyList_Append(found, name) < 0)
            Py_CLEAR(found);
        Py_XDECREF(name);
    }
    return found;
}

static int find(PyObject *name, struct entry *entry)
{
    const char *text = PyUnicode_AsUTF8(name);

    if (!text)
        return -1;
    if (archive_find(text, entry))
        return 0;
    PyErr_SetObject(PyExc_KeyError, name);
    return -1;
}

static PyObject *read_entry(PyObject *self, PyObject *name)
{
    struct entry entry;

    (void)self;
    return find(name, &entry) < 0 ? NULL : PyBytes_FromStringAndSize((const char *)entry.data, (Py_ssize_t)entry.size);
}

/* By the kernel, from one page cache to the other. */
static int fill(int file, const struct entry *entry)
{
    off_t offset = archive_offset(entry);
    size_t left = entry->size;

    while (left) {
        ssize_t sent = sendfile(file, archive_file(), &offset, left);
        if (sent <= 0)
            return -1;
        left -= (size_t)sent;
    }
    return 0;
}

/* Whether the machine lets the content of a file run, and the dynamic linker gets at it by this path. */
static bool may_run(int file, const char *path)
{
    void *mapped = mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);

    if (mapped == MAP_FAILED)
        return false;
    munmap(mapped, 1);
    return access(path, F_OK) == 0;
}

/* From a file without a name: nothing is left behind whatever happens. The descriptor stays open, since the dynamic
 * linker knows a library by its path, and would take the next one with the same number for this one. */
static bool load_unnamed(int file, const struct entry *entry, char *path, size_t size, void **library)
{
    bool may;

    if (file < 0)
        return false;
    snprintf(path, size, "/proc/self/fd/%d", file);
    may = fill(file, entry) == 0 && may_run(file, path);
    if (may)
        *library = dlopen(path, RTLD_NOW);
    if (!*library)
        close(file);
    return may;
}

/* Without the mark that it may be executed, which the dynamic linker does not need: many a kernel forbids it, and all
 * since Linux 6.3 warn of files that do not say. */
static int memory_file(const char *name)
{
    int file = memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);

    return file < 0 && errno == EINVAL ? memfd_create(name, MFD_CLOEXEC) : file;
}

/* Without /proc only a name leads to a file. No signal ends us while it has one. */
static bool load_named(const char *directory, const struct entry *entry, char *path, size_t size, void **library)
{
    sigset_t all, before;
    bool may;
    int file;

    if ((size_t)snprintf(path, size, "%s/dso-XXXXXX", directory) >= size)
        return false;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    file = mkostemp(path, O_CLOEXEC);
    may = file >= 0 && fill(file, entry) == 0 && may_run(file, path);
    if (may)
        *library = dlopen(path, RTLD_NOW);
    if (file >= 0) {
        unlink(path);
        close(file);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return may;
}

/* The one library that is loaded while the interpreter starts. */
static struct {
    struct entry entry;
    pthread_t thread;
    bool is_running;
    char path[64];
    void *library;
} ahead;

static void *load_in_thread(void *nothing)
{
    load_unnamed(memory_file(ahead.entry.name), &ahead.entry, ahead.path, sizeof ahead.path, &ahead.library);
    return nothing;
}

void archive_load_ahead(const char *word)
{
    char name[64], wanted[256];
    struct entry entry;
    sigset_t all, before;

    if ((size_t)snprintf(name, sizeof name, "ahead/%s", word) >= sizeof name || !archive_find(name, &entry)
        || (size_t)snprintf(wanted, sizeof wanted, "%.*s", (int)entry.size, entry.data) >= sizeof wanted
        || !archive_find(wanted, &ahead.entry))
        return;
    sigfillset(&all); /* signals are for the thread that runs Python */
    sigprocmask(SIG_SETMASK, &all, &before);
    ahead.is_running = pthread_create(&ahead.thread, NULL, load_in_thread, NULL) == 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* Whether it is this one, and could be loaded so. */
static bool was_loaded_ahead(const struct entry *entry)
{
    if (!ahead.is_running || entry->data != ahead.entry.data)
        return false;
    Py_BEGIN_ALLOW_THREADS
    pthread_join(ahead.thread, NULL);
    Py_END_ALLOW_THREADS
    ahead.is_running = false;
    return ahead.library;
}

static PyObject *load(PyObject *self, PyObject *name)
{
    const char *directory = getenv("TMPDIR"), *said;
    char path[4096];
    struct entry entry;
    void *library = NULL;
    bool may;

    (void)self;
    if (find(name, &entry) < 0)
        return NULL;
    if (was_loaded_ahead(&entry))
        return PyUnicode_DecodeFSDefault(ahead.path);
    if (!directory || !*directory)
        directory = "/tmp";
    may = load_unnamed(memory_file(entry.name), &entry, path, sizeof path, &library)
          || load_unnamed(open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), &entry, path, sizeof path, &library)
          || load_named(directory, &entry, path, sizeof path, &library);
    if (library)
        return PyUnicode_DecodeFSDefault(path);
    if (!may)
        return PyErr_Format(PyExc_PermissionError, "%U may run neither from memory nor from %s", name, directory);
    said = dlerror();
    return PyErr_Format(PyExc_OSError, "%U: %s", name, said ? said : "the dynamic linker does not say why");
}

static PyMethodDef methods[] = {
    {"names", names, METH_NOARGS, NULL},
    {"read", read_entry, METH_O, NULL},
    {"load", load, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_archive", .m_size = 0, .m_methods = methods};

static PyObject *create(void)
{
    return PyModule_Create(&definition);
}

int archive_module(void)
{
    return PyImport_AppendInittab("_archive", create);
}
