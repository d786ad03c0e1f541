package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// fixed completes a flag with words that are always the same. Words that end in = or :
// go on.
func fixed(words ...string) cobra.CompletionFunc {
	directive := cobra.ShellCompDirectiveNoFileComp
	for _, word := range words {
		if strings.HasSuffix(word, "=") || strings.HasSuffix(word, ":") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
	}
	return cobra.FixedCompletions(words, directive)
}

// completeFlags says how flags are completed, which are there already.
func completeFlags(cmd *cobra.Command, flags map[string]cobra.CompletionFunc) {
	for name, complete := range flags {
		if err := cmd.RegisterFlagCompletionFunc(name, complete); err != nil {
			panic(err) // of the program's own, at every start
		}
	}
}

// anywhere completes a flag's value whatever the arguments are.
func anywhere(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return complete(cmd, nil, typed)
	}
}

// orContainer offers words, and container:NAME for each container.
func orContainer(containers cobra.CompletionFunc, words ...string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		out := words
		names, directive := containers(cmd, nil, typed)
		for _, name := range names {
			out = append(out, "container:"+name)
		}
		return out, directive
	}
}

// signalNames are those that people send.
var signalNames = []string{"HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "STOP", "CONT", "WINCH"}

// capabilities are the kernel's, of capabilities(7), without CAP_.
var capabilities = strings.Fields(`ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN
	DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE
	MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN
	SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM`)

// complete says how the flags of run and create are completed.
func (f *createFlags) complete(cmd *cobra.Command, containers, volumes cobra.CompletionFunc) {
	completeFlags(cmd, map[string]cobra.CompletionFunc{
		"restart":      fixed("no", "on-failure", "unless-stopped", "always"),
		"log-driver":   fixed("json-file", "journald", "none"),
		"log-opt":      fixed("max-size=", "max-file=", "compress=", "labels=", "env=", "tag=", "mode="),
		"pull":         fixed("always", "missing", "never"),
		"cgroupns":     fixed("host", "private"),
		"uts":          fixed("host"),
		"userns":       fixed("host"),
		"ipc":          orContainer(containers, "private", "shareable", "host", "none"),
		"pid":          orContainer(containers, "host"),
		"volumes-from": anywhere(containers),
		"cap-add":      fixed(capabilities...),
		"cap-drop":     fixed(capabilities...),
		"attach":       fixed("stdin", "stdout", "stderr"),
		"stop-signal":  fixed(signalNames...),
		"security-opt": fixed("seccomp=", "apparmor=", "label=", "no-new-privileges", "systempaths=unconfined"),
		"volume": func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			if strings.HasPrefix(typed, "/") || strings.HasPrefix(typed, ".") {
				return nil, cobra.ShellCompDirectiveDefault // a file of this host
			}
			names, _ := volumes(cmd, nil, typed)
			var out []string
			for _, name := range names {
				out = append(out, name+":")
			}
			return out, cobra.ShellCompDirectiveNoSpace
		},
	})
}

// filterKeys completes --filter with the keys there are.
func filterKeys(cmd *cobra.Command, keys ...string) {
	var words []string
	for _, key := range keys {
		words = append(words, key+"=")
	}
	completeFlags(cmd, map[string]cobra.CompletionFunc{"filter": fixed(words...)})
}
