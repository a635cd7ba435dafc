/* `_archive`: what Python code reads from the executable itself.
 *
 * `names()`: of all entries that are not code.  `read(NAME)`: an entry's content.
 * `load(NAME)`: load the shared library in an entry, and return the path that the dynamic linker knows it by from then
 * on; OSError with its message if it cannot be loaded.
 */

#include <Python.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "archive.h"

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

/* From anonymous memory: nothing is left behind whatever happens. The descriptor stays open, since the dynamic linker
 * knows a library by its path, and would take the next one with the same number for this one. */
static void *load_from_memory(const struct entry *entry, char *path, size_t size)
{
    int file = memfd_create(entry->name, MFD_CLOEXEC);
    void *library;

    if (file < 0)
        return NULL;
    snprintf(path, size, "/proc/self/fd/%d", file);
    library = fill(file, entry) < 0 ? NULL : dlopen(path, RTLD_NOW);
    if (!library)
        close(file);
    return library;
}

/* Where that is forbidden: from a file that is gone before anybody else could want it. */
static void *load_from_file(const struct entry *entry, char *path, size_t size)
{
    const char *directory = getenv("TMPDIR");
    void *library = NULL;
    int file;

    if (!directory || !*directory)
        directory = "/tmp";
    if ((size_t)snprintf(path, size, "%s/dso-XXXXXX", directory) >= size)
        return NULL;
    file = mkostemp(path, O_CLOEXEC);
    if (file < 0)
        return NULL;
    if (fill(file, entry) == 0)
        library = dlopen(path, RTLD_NOW);
    unlink(path);
    close(file);
    return library;
}

static PyObject *load(PyObject *self, PyObject *name)
{
    char path[4096];
    struct entry entry;
    const char *said;

    (void)self;
    if (find(name, &entry) < 0)
        return NULL;
    dlerror();
    if (load_from_memory(&entry, path, sizeof path) || load_from_file(&entry, path, sizeof path))
        return PyUnicode_DecodeFSDefault(path);
    said = dlerror();
    return PyErr_Format(PyExc_OSError, "%U: %s", name, said ? said : strerror(errno));
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
