//go:build linux

package redirect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/fsnotify/fsnotify"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// event is a reason to compare. by is the process that changed rules, when the kernel says it, and generation the number of
// the change.
type event struct {
	what, by   string
	generation uint32
}

// events tells what may make the kernel differ from the plan: changed nftables rules, those of iptables-nft among them; IPv6
// addresses; resolv.conf. The kernel does not tell of changed legacy iptables rules.
type events struct {
	ch    chan event
	files *fsnotify.Watcher
	close func()
}

// subscribe is told from now on. Sockets belong to the namespace of the calling thread.
func subscribe(ctx context.Context) (_ *events, err error) {
	e := &events{ch: make(chan event, 64)}
	var closers []func()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	e.close = func() {
		cancel()
		for _, c := range closers {
			c()
		}
		wg.Wait()
	}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	for _, source := range []struct {
		protocol int
		group    uint
		parse    func([]byte) event
	}{
		{unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES, nftablesEvent},
		{unix.NETLINK_ROUTE, unix.RTNLGRP_IPV6_IFADDR, func([]byte) event { return event{what: "IPv6 addresses"} }},
	} {
		f, err := listen(source.protocol, source.group)
		if err != nil {
			return nil, err
		}
		closers = append(closers, func() { _ = f.Close() }) // only read
		wg.Go(func() { e.receive(ctx, f, source.parse) })
	}
	if e.files, err = fsnotify.NewWatcher(); err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	closers = append(closers, func() { _ = e.files.Close() })
	wg.Go(func() { e.watchFiles(ctx) })
	return e, nil
}

func listen(protocol int, group uint) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (group - 1)})
		if err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen for changes of rules and addresses: %w", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// receive ends when the socket is closed.
func (e *events) receive(ctx context.Context, f *os.File, parse func([]byte) event) {
	buf := make([]byte, 1<<16)
	for {
		n, err := f.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS): // there was more than fits: what it was does not matter
			e.tell(ctx, event{what: "many changes"})
		case err != nil:
			return
		default:
			if ev := parse(buf[:n]); ev.what != "" {
				e.tell(ctx, ev)
			}
		}
	}
}

// tell drops what does not fit: one reason to compare is as good as many.
func (e *events) tell(ctx context.Context, ev event) {
	select {
	case e.ch <- ev:
	case <-ctx.Done():
	default:
	}
}

// nftablesEvent is that of the message that ends a transaction, which names the process; the others before it are none.
func nftablesEvent(b []byte) (ev event) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return ev
		}
		kind := binary.NativeEndian.Uint16(b[4:])
		if kind == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN && size >= unix.NLMSG_HDRLEN+nl.SizeofNfgenmsg {
			ev = generationEvent(b[unix.NLMSG_HDRLEN:size])
		}
		b = b[min(len(b), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return ev
}

// generationEvent reads the message that ends a transaction.
func generationEvent(b []byte) event {
	ev := event{what: "nftables rules"}
	attrs, err := nl.ParseRouteAttr(b[nl.SizeofNfgenmsg:])
	if err != nil {
		return ev
	}
	var name string
	var thread uint32
	for _, a := range attrs {
		number := uint32(0)
		if len(a.Value) >= 4 {
			number = binary.BigEndian.Uint32(a.Value)
		}
		switch a.Attr.Type {
		case unix.NFTA_GEN_ID:
			ev.generation = number
		case unix.NFTA_GEN_PROC_PID:
			thread = number
		case unix.NFTA_GEN_PROC_NAME:
			name = nl.BytesToString(a.Value)
		}
	}
	if name != "" {
		ev.by = fmt.Sprintf("%s (process %d)", name, thread)
	}
	return ev
}

// generation is the number of the last change of nftables rules, 0 when there are none here.
func generation() uint32 {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.AddData(&nl.Nfgenmsg{Version: nl.NFNETLINK_V0})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil || len(answers) == 0 || len(answers[0]) < nl.SizeofNfgenmsg {
		return 0
	}
	return generationEvent(answers[0]).generation
}

// watch has changes of a file told as well; writers may replace it, or what it links to. What cannot be watched is left out.
func (e *events) watch(file string) {
	want := []string{file, filepath.Dir(file)}
	if target, err := filepath.EvalSymlinks(file); err == nil && target != file {
		want = append(want, target, filepath.Dir(target))
	}
	for _, p := range want {
		_ = e.files.Add(p) // its folder is watched too, or else it does not exist
	}
	for _, p := range e.files.WatchList() {
		if !slices.Contains(want, p) {
			_ = e.files.Remove(p) // gone already
		}
	}
}

func (e *events) unwatch() {
	for _, p := range e.files.WatchList() {
		_ = e.files.Remove(p) // gone already
	}
}

// watchFiles tells of everything in the folders: comparing is cheap, and links make it hard to say what matters.
func (e *events) watchFiles(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-e.files.Events:
			if !ok {
				return
			}
			if ev.Op != fsnotify.Chmod {
				e.tell(ctx, event{what: "resolv.conf"})
			}
		case _, ok := <-e.files.Errors: // events were lost: look
			if !ok {
				return
			}
			e.tell(ctx, event{what: "resolv.conf"})
		}
	}
}
