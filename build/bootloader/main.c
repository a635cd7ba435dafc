/* The program at the head of a frozen binary: an interpreter that has all its code in its own executable.
 *
 * PyInstaller appends an archive to this program: modules as marshalled code, and extension modules, libraries and data
 * as they are. Nothing of it is unpacked. Modules are the interpreter's frozen modules (PyImport_FrozenModules of
 * "Importing Modules", Python/C API), unmarshalled straight from the mapped executable; the rest is for archive.c.
 *
 * An entry `answer/WORD` is printed, and that is all, when WORD is the first argument: no interpreter is needed to tell
 * Docker what a plugin is called. An entry `ahead/WORD` names a library that the command of this name will want.
 * docs/decisions/0014-boot-loader-of-our-own.md has the reasons.
 */

#include <Python.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive.h"

#define ROOT L"/proc/self/exe" /* where modules say they come from: a file, in which nobody can put another */
#define PLUGIN "dso"
#define DAMAGED "is damaged: install DSO again"

static int answer(const char *word)
{
    char name[64];
    struct entry entry;

    if ((size_t)snprintf(name, sizeof name, "answer/%s", word) >= sizeof name || !archive_find(name, &entry))
        return -1;
    return write(STDOUT_FILENO, entry.data, entry.size) == (ssize_t)entry.size ? 0 : 1;
}

/* Modules of the archive become frozen ones. The table lives as long as the process. */
static int freeze_modules(void)
{
    struct _frozen *modules = calloc(archive_count() + 1, sizeof *modules), *next = modules;
    struct cursor cursor = archive_begin();
    struct entry entry;

    if (!modules)
        return -1;
    while (archive_next(&cursor, &entry)) {
        if (!strchr(MODULE_KINDS, entry.kind))
            continue;
        next->name = entry.kind == KIND_SCRIPT ? "__main__" : entry.name;
        next->code = entry.data;
        next->size = (int)entry.size;
        next->is_package = entry.kind == KIND_PACKAGE;
        next++;
    }
    PyImport_FrozenModules = modules;
    return 0;
}

static PyStatus add_path(PyConfig *config)
{
    static const struct { size_t offset; const wchar_t *value; } texts[] = {
        {offsetof(PyConfig, prefix), ROOT},           {offsetof(PyConfig, exec_prefix), ROOT},
        {offsetof(PyConfig, base_prefix), ROOT},      {offsetof(PyConfig, base_exec_prefix), ROOT},
        {offsetof(PyConfig, stdlib_dir), ROOT},       {offsetof(PyConfig, home), ROOT},
    };
    PyStatus status = PyStatus_Ok();

    /* No directory: what the archive lacks is nowhere. */
    config->module_search_paths_set = 1;
    for (size_t index = 0; index < sizeof texts / sizeof *texts && !PyStatus_Exception(status); index++)
        status = PyConfig_SetString(config, (wchar_t **)((char *)config + texts[index].offset), texts[index].value);
    return status;
}

/* Isolated from the environment, and UTF-8 whatever the locale is. */
static PyStatus start(int argc, char **argv)
{
    PyPreConfig before;
    PyConfig config;
    PyStatus status;

    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    status = Py_PreInitialize(&before);
    if (PyStatus_Exception(status))
        return status;
    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 0; /* ^C ends the process until a launcher says otherwise */
    config.site_import = 0;
    config.write_bytecode = 0;
    config.use_frozen_modules = 1;
    config.pathconfig_warnings = 0;
    status = add_path(&config);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(&config, &config.executable, archive_path());
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesArgv(&config, argc, argv);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return status;
}

/* No file of ours may take the place of a standard stream that is closed: what is written to that would go into it.
 * Reading and writing fail as before, but for messages, of which nobody wants to know. */
static void occupy_streams(void)
{
    static const int modes[] = {O_WRONLY, O_RDONLY, O_RDWR};

    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++)
        if (fcntl(stream, F_GETFD) < 0 && open("/dev/null", modes[stream]) != stream)
            return; /* there is no /dev */
}

/* Say in one line why there will be nothing; the exit code, that of a defect (dso/errors.py). */
static int fail(const char *program, const char *what)
{
    fprintf(stderr, "Error: %s %s\n", program, what);
    return 70;
}

/* Run the launcher, which ends the process itself. What it lets through goes to sys.excepthook: no exception's text may
 * be shown (dso/entry/failure.py). */
static int run(const char *program)
{
    PyObject *lazy = PyImport_ImportModule("dso.entry.lazy");

    if (!lazy) {
        PyErr_Clear();
        return fail(program, DAMAGED);
    }
    if (!PyObject_CallMethod(lazy, "install", NULL) || PyImport_ImportFrozenModule("__main__") < 0)
        PyErr_Print();
    return 70;
}

int main(int argc, char **argv)
{
    const char *program = argc ? argv[0] : "this program";
    PyStatus status;

    occupy_streams();
    if (archive_open() < 0)
        return fail(program, DAMAGED);
    if (argc > 1) {
        int told = answer(argv[1]);
        if (told >= 0)
            return told;
    }
    if (argc > 2) /* Docker puts the plugin's name in front of the command */
        archive_load_ahead(argv[strcmp(argv[1], PLUGIN) == 0 ? 2 : 1]);
    if (freeze_modules() < 0 || archive_module() < 0)
        return fail(program, "cannot start: there is not enough memory");
    signal(SIGPIPE, SIG_IGN); /* as `python` has these two */
    signal(SIGXFSZ, SIG_IGN);
    status = start(argc, argv);
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "Error: %s cannot start: %s\n", program, status.err_msg ? status.err_msg : "nobody says why");
        return 70;
    }
    return run(program);
}
