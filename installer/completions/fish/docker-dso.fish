# Completion of `docker-dso` in fish. `docker dso` is completed by Docker's own script (`docker completion fish`).
# Both ask the program: `docker-dso __complete WORDS...` prints candidates and last `:DIRECTIVE`.

function __docker_dso_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~(?=/)' -- $HOME $words[1])
    set -l answer ($program __complete $words[2..-1] "$current" 2>/dev/null)
    set -l directive (string match -r -- '^:(\d+)$' $answer[-1])[2]
    test -n "$directive"; and test (math "$directive % 2") -eq 0; or return
    set -e answer[-1]

    if test (math "floor($directive / 16) % 2") -eq 1
        __fish_complete_directories "$current"
    else if test (math "floor($directive / 8) % 2") -eq 1
        __fish_complete_path "$current" # the candidates are extensions of files
    else if test (count $answer) -gt 0
        # Of `--flag=value` the program answers with the value, and fish completes the whole word.
        set -l prefix (string match -r -- '^-[^=]*=' "$current")
        for candidate in $answer
            printf '%s%s\n' "$prefix" $candidate
        end
    else if test (math "floor($directive / 4) % 2") -eq 0
        __fish_complete_path "$current"
    end
end

complete -c docker-dso -e
complete -c docker-dso -k -f -a '(__docker_dso_complete)'
